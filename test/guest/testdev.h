/*
 * The test device, as payloads see it: the machine clock, interrupts on
 * demand, and a window that remembers how it was accessed.
 */
#ifndef TEST_GUEST_TESTDEV_H
#define TEST_GUEST_TESTDEV_H

/* Ports, 32 bits each */
#define TESTDEV_CLOCK 0x5c0      /* read: machine clock in microseconds */
#define TESTDEV_LINE 0x5c4       /* write: line, with bit 8 raise it */
#define TESTDEV_PULSE 0x5c8      /* write: one edge on this line */
#define TESTDEV_MSI_ADDR 0x5cc   /* write: address of the message */
#define TESTDEV_MSI_DATA 0x5d0   /* write: its data; sends it */
#define TESTDEV_ALARM_LINE 0x5d4 /* write: the line that the alarm pulses */
#define TESTDEV_ALARM 0x5d8    /* write: pulse it after so many us; 0: never */
#define TESTDEV_COUNT 0x5dc    /* accesses to the windows; a write forgets */
#define TESTDEV_LAST 0x5e0     /* the last one, as below */
#define TESTDEV_VALUE 0x5e4    /* its value, low 32 bits */
#define TESTDEV_DMA_ADDR 0x5e8 /* write: where in memory */
#define TESTDEV_DMA_DATA 0x5ec /* write: stores these 32 bits there */
#define TESTDEV_REGS 12

#define TESTDEV_LAST_SIZE 0xf
#define TESTDEV_LAST_WRITE 0x10
#define TESTDEV_LAST_MMIO 0x20
#define TESTDEV_LAST_OFFSET_SHIFT 8

#define TESTDEV_LINE_RAISE 0x100

/* Windows: each as memory, but every access calls the device. */
#define TESTDEV_PORTS 0x600
#define TESTDEV_PORTS_LEN 0x100
#define TESTDEV_LOW_PORTS 0xe0 /* its first bytes: short enough for IN imm8 */
#define TESTDEV_LOW_PORTS_LEN 8
#define TESTDEV_MMIO 0xfe000000
#define TESTDEV_MMIO_LEN 0x1000

#endif
