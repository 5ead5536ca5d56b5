#!/usr/bin/env python3
"""bhyve's command line, from outside: what each one prints and exits with.

	cli_test.py BHYVE

Prints TAP.  Rows of TREES are command lines and the tree that config.dump
shows for them; rows of ERRORS are what bhyve refuses, and how.
"""
import os
import shlex
import subprocess
import sys
import tempfile

DEFAULTS = '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=256M
x86.strictmsr=true
lpc.fwcfg=bhyve
'''

# Name, arguments, expected tree.  A tree that begins with + stands behind the
# defaults and ends with the name; the others are whole.
TREES = [
    ('defaults', 'vm0', '+'),
    ('a bhyveload guest',
     '-c 2 -m 1G -H -P -s 0,hostbridge -s 1,lpc -s 2,virtio-blk,FILE '
     '-s 3,virtio-net,tap0 -l com1,stdio vm0',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=1G
x86.strictmsr=true
x86.vmexit_on_hlt=true
x86.vmexit_on_pause=true
lpc.fwcfg=bhyve
lpc.com1.path=stdio
cpus=2
pci.0.0.0.device=hostbridge
pci.0.1.0.device=lpc
pci.0.2.0.device=virtio-blk
pci.0.2.0.path=FILE
pci.0.3.0.device=virtio-net
pci.0.3.0.backend=tap0
name=vm0
'''),
    ('a UEFI guest',
     '-c 2 -m 1G -H -P -w -s 0,hostbridge -s 31,lpc -s 2,virtio-blk,FILE '
     '-s 3,virtio-net,tap0 -s 29,fbuf,tcp=0.0.0.0:5900,w=800,h=600,wait '
     '-s 30,xhci,tablet -l bootrom,UEFI.fd,VARS.fd -l com1,stdio vm0',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=1G
x86.vmexit_on_hlt=true
x86.vmexit_on_pause=true
x86.strictmsr=false
lpc.fwcfg=bhyve
lpc.bootrom=UEFI.fd
lpc.bootvars=VARS.fd
lpc.com1.path=stdio
cpus=2
pci.0.0.0.device=hostbridge
pci.0.31.0.device=lpc
pci.0.2.0.device=virtio-blk
pci.0.2.0.path=FILE
pci.0.3.0.device=virtio-net
pci.0.3.0.backend=tap0
pci.0.29.0.device=fbuf
pci.0.29.0.tcp=0.0.0.0:5900
pci.0.29.0.w=800
pci.0.29.0.h=600
pci.0.29.0.wait=true
pci.0.30.0.device=xhci
pci.0.30.0.slot.1.device=tablet
name=vm0
'''),
    ('a SmartOS zone',
     '-m 1024 -c 1 -H -B 1,manufacturer=Joyent,product="SmartDC HVM",'
     'version=7.1,serial=564db9a2,sku=001,family="Virtual Machine" '
     '-U 564db9a2-1b3e-4c5d-8e9f-001122334455 -s 0,hostbridge,model=i440fx '
     '-s 3:0,ahci-cd,/iso -s 4:0,virtio-blk,/dev/zvol/rdsk/zones/vm/disk0 '
     '-s 4:1,virtio-blk,/dev/zvol/rdsk/zones/vm/disk1 '
     '-s 6:0,virtio-net-viona,net0 -s 30:0,fbuf,vga=off,unix=/tmp/vm.vnc '
     '-s 30:1,xhci,tablet -s 31,lpc -l com1,/dev/zconsole '
     '-l com2,socket,/tmp/vm.ttyb -l bootrom,/usr/share/bhyve/BHYVE.fd '
     'SYSbhyve-1',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=1024
x86.strictmsr=true
x86.vmexit_on_hlt=true
lpc.fwcfg=bhyve
lpc.com1.path=/dev/zconsole
lpc.com2.path=socket,/tmp/vm.ttyb
lpc.bootrom=/usr/share/bhyve/BHYVE.fd
cpus=1
system.manufacturer=Joyent
system.product_name=SmartDC HVM
system.version=7.1
system.serial_number=564db9a2
system.sku=001
system.family_name=Virtual Machine
uuid=564db9a2-1b3e-4c5d-8e9f-001122334455
pci.0.0.0.device=hostbridge
pci.0.0.0.model=i440fx
pci.0.3.0.device=ahci
pci.0.3.0.port.0.type=cd
pci.0.3.0.port.0.path=/iso
pci.0.4.0.device=virtio-blk
pci.0.4.0.path=/dev/zvol/rdsk/zones/vm/disk0
pci.0.4.1.device=virtio-blk
pci.0.4.1.path=/dev/zvol/rdsk/zones/vm/disk1
pci.0.6.0.device=virtio-net-viona
pci.0.6.0.vnic=net0
pci.0.30.0.device=fbuf
pci.0.30.0.vga=off
pci.0.30.0.unix=/tmp/vm.vnc
pci.0.30.1.device=xhci
pci.0.30.1.slot.1.device=tablet
pci.0.31.0.device=lpc
name=SYSbhyve-1
'''),
    ('a zone with a boot ROM',
     '-m 4g -c 2 -l com1,stdio -P -H -s 1,lpc '
     '-s 3,virtio-blk,/dev/zvol/rdsk/tank/myfirstvm/disk0 '
     '-s 4,virtio-net-viona,net0 '
     '-l bootrom,/usr/share/bhyve/bhyve-csm-rom.fd myfirstvm',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=4g
x86.strictmsr=true
x86.vmexit_on_pause=true
x86.vmexit_on_hlt=true
lpc.fwcfg=bhyve
lpc.com1.path=stdio
lpc.bootrom=/usr/share/bhyve/bhyve-csm-rom.fd
cpus=2
pci.0.1.0.device=lpc
pci.0.3.0.device=virtio-blk
pci.0.3.0.path=/dev/zvol/rdsk/tank/myfirstvm/disk0
pci.0.4.0.device=virtio-net-viona
pci.0.4.0.vnic=net0
name=myfirstvm
'''),
    ('Windows from a CD',
     '-c 2 -s 3,ahci-cd,/images/windows_10.iso '
     '-s 5,ahci-cd,./virtio-win-0.1.118.iso '
     '-s 11,fbuf,tcp=0.0.0.0:5900,w=1280,h=720,wait -s 12,xhci,tablet '
     '-s 18,virtio-net,tap0 -s 20,nvme,./win10.img -s 31,lpc '
     '-l bootrom,./BHYVE_UEFI.fd -m 2G -H -w windows',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=2G
x86.vmexit_on_hlt=true
x86.strictmsr=false
lpc.fwcfg=bhyve
lpc.bootrom=./BHYVE_UEFI.fd
cpus=2
pci.0.3.0.device=ahci
pci.0.3.0.port.0.type=cd
pci.0.3.0.port.0.path=/images/windows_10.iso
pci.0.5.0.device=ahci
pci.0.5.0.port.0.type=cd
pci.0.5.0.port.0.path=./virtio-win-0.1.118.iso
pci.0.11.0.device=fbuf
pci.0.11.0.tcp=0.0.0.0:5900
pci.0.11.0.w=1280
pci.0.11.0.h=720
pci.0.11.0.wait=true
pci.0.12.0.device=xhci
pci.0.12.0.slot.1.device=tablet
pci.0.18.0.device=virtio-net
pci.0.18.0.backend=tap0
pci.0.20.0.device=nvme
pci.0.20.0.path=./win10.img
pci.0.31.0.device=lpc
name=windows
'''),
    ('a controller with nine drives',
     '-c 4 -s 0,amd_hostbridge -s 1,lpc -s 2:0,ahci,hd:/images/disk.1,'
     'hd:/images/disk.2,hd:/images/disk.3,hd:/images/disk.4,'
     'hd:/images/disk.5,hd:/images/disk.6,hd:/images/disk.7,'
     'hd:/images/disk.8,cd:/images/install.iso -s 3,virtio-net,tap0 '
     '-l com1,/dev/nmdm0A -A -H -P -m 8G vm0',
     '''acpi_tables_in_memory=true
memory.size=8G
x86.strictmsr=true
x86.vmexit_on_hlt=true
x86.vmexit_on_pause=true
lpc.fwcfg=bhyve
lpc.com1.path=/dev/nmdm0A
cpus=4
pci.0.0.0.device=hostbridge
pci.0.0.0.pcireg.vendor=0x1022
pci.0.0.0.pcireg.device=0x7432
pci.0.1.0.device=lpc
pci.0.2.0.device=ahci
''' + ''.join(f'pci.0.2.0.port.{i}.type=hd\n'
              f'pci.0.2.0.port.{i}.path=/images/disk.{i + 1}\n'
              for i in range(8)) +
     '''pci.0.2.0.port.8.type=cd
pci.0.2.0.port.8.path=/images/install.iso
pci.0.3.0.device=virtio-net
pci.0.3.0.backend=tap0
acpi_tables=true
name=vm0
'''),
    ('later wins', '-c 2 -c 4 -o cpus=8 vm0', '+cpus=8\n'),
    ('topology', '-c sockets=1,cores=2,4,threads=2 vm0',
     '+sockets=1\ncores=2\ncpus=4\nthreads=2\n'),
    ('an empty topology', "-c '' vm0",
     '+cpus=1\nsockets=1\ncores=1\nthreads=1\n'),
    ('-D, -I, -d, -K, -U',
     '-D -I -d -K de -U 00000000-0000-0000-0000-000000000001 vm0',
     '+destroy_on_poweroff=true\nsuspend_at_boot=true\nkeyboard.layout=de\n'
     'uuid=00000000-0000-0000-0000-000000000001\n'),
    ('-u, -W', '-uW vm0', '+rtc.use_localtime=false\nvirtio_msix=false\n'),
    ('pins', '-p 0:1 -p 1:2 -p 0:3 vm0',
     '+vcpu.0.cpuset=1,3\nvcpu.1.cpuset=2\n'),
    ('NUMA domains',
     '-n id=0,size=1G,cpus=0-1,3 -n id=1,cpus=2,size=512M,'
     'domain_policy=prefer:0 vm0',
     '+domains.0.size=1G\ndomains.0.cpus=0-1,3\ndomains.1.cpus=2\n'
     'domains.1.size=512M\ndomains.1.domain_policy=prefer:0\n'),
    ('fw_cfg items',
     '-f name=opt/a,string=x,y=z -f opt/b,file=/etc/hostname vm0',
     '+fwcfg.0.name=opt/a\nfwcfg.0.string=x,y=z\nfwcfg.1.name=opt/b\n'
     'fwcfg.1.file=/etc/hostname\n'),
    ('a debug server', '-G w[::1]:1234 vm0',
     '+gdb.wait=true\ngdb.address=[::1]\ngdb.port=1234\n'),
    ('a debug server on a port', '-G 1234 vm0', '+gdb.port=1234\n'),
    ('SMBIOS',
     '-B 0,vendor=V,version=1,release_date=1/2/3 -B 1,uuid=x,family=f '
     '-B 2,location=l,asset_tag=a -B 3,sku=s vm0',
     '+bios.vendor=V\nbios.version=1\nbios.release_date=1/2/3\nuuid=x\n'
     'system.family_name=f\nboard.location=l\nboard.asset_tag=a\n'
     'chassis.sku=s\n'),
    ('a bus of its own', '-Y -s 5:6:7,uart,tcp=127.0.0.1:1 vm0',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=256M
x86.strictmsr=true
x86.mptable=false
lpc.fwcfg=bhyve
pci.5.6.7.device=uart
pci.5.6.7.path=tcp=127.0.0.1:1
name=vm0
'''),
    ('a boot ROM with a firmware interface',
     '-l bootrom,ROM,fwcfg=qemu -l BootROM,ROM2,VARS vm0',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=256M
x86.strictmsr=true
lpc.fwcfg=qemu
lpc.bootrom=ROM2
lpc.bootvars=VARS
name=vm0
'''),
    ('TPM', '-l tpm,swtpm,/tmp/tpm.sock vm0',
     '+tpm.type=swtpm\ntpm.path=/tmp/tpm.sock\ntpm.version=2.0\n'),
    ('TPM with a version', '-l tpm,passthru,/dev/tpm0,version=1.2 vm0',
     '+tpm.type=passthru\ntpm.path=/dev/tpm0\ntpm.version=1.2\n'),
    ('a test device', '-l pc-testdev -l COM3,tcp=[::1]:5,x vm0',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=256M
x86.strictmsr=true
lpc.fwcfg=bhyve
lpc.pc-testdev=true
lpc.com3.path=tcp=[::1]:5,x
name=vm0
'''),
    ('all flags of the processor', '-CSaexw vm0',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=256M
memory.guest_in_core=true
memory.wired=true
x86.strictio=true
x86.x2apic=true
x86.strictmsr=false
lpc.fwcfg=bhyve
name=vm0
'''),
    ('a name by key', '-o name=vm7', '+name=vm7\n'),
    ('values are not expanded',
     '-o path=/vms/%(name)/100%% -o boot.cmdline="a=b c" vm0',
     '+path=/vms/%(name)/100%%\nboot.cmdline=a=b c\n'),
    ('a file', '-k {good} -m 2G',
     '''acpi_tables=true
acpi_tables_in_memory=true
memory.size=2G
x86.strictmsr=true
lpc.fwcfg=bhyve
name=from-file
pci.0.3.0.device=virtio-blk
pci.0.3.0.path=/vms/%(name).img
'''),
]

HELP = 'Usage: bhyve ['
EX_USAGE = 64

# Name, arguments, exit status, the one line on standard error.
ERRORS = [
    ('a bad topology', '-c sockets=1,bananas=2 vm0', EX_USAGE,
     "invalid cpu topology 'sockets=1,bananas=2'"),
    ('an empty word in a topology', '-c cpus=1, vm0', EX_USAGE,
     "invalid cpu topology 'cpus=1,'"),
    ('no vcpu to pin', '-p 3 vm0', EX_USAGE,
     "invalid vcpu pinning configuration '3'"),
    ('a bad vcpu to pin', '-p x:3 vm0', EX_USAGE,
     "invalid vcpu pinning configuration 'x:3'"),
    ('a host CPU that no host has', '-p 0:1024 vm0', EX_USAGE,
     "invalid vcpu pinning configuration '0:1024'"),
    ('an unknown SMBIOS type', '-B 7,vendor=x vm0', EX_USAGE,
     "invalid SMBIOS configuration '7,vendor=x'"),
    ('an unknown SMBIOS key', '-B 1,colour=x vm0', EX_USAGE,
     "invalid SMBIOS configuration '1,colour=x'"),
    ('SMBIOS without a value', '-B 1,sku vm0', EX_USAGE,
     "invalid SMBIOS configuration '1,sku'"),
    ('SMBIOS without keys', '-B 1 vm0', EX_USAGE,
     "invalid SMBIOS configuration '1'"),
    ('a fw_cfg item without a value', '-f opt/x vm0', EX_USAGE,
     "invalid fwcfg item 'opt/x'"),
    ('a fw_cfg item of no kind', '-f opt/x,value=y vm0', EX_USAGE,
     "invalid fwcfg item 'opt/x,value=y'"),
    ('a long fw_cfg name', '-f ' + 56 * 'x' + ',string=y vm0', EX_USAGE,
     "invalid fwcfg item '" + 56 * 'x' + ",string=y'"),
    ('a NUMA domain without an id', '-n size=1G,cpus=0 vm0', EX_USAGE,
     "invalid NUMA configuration 'size=1G,cpus=0'"),
    ('an unknown NUMA key', '-n id=0,colour=x vm0', EX_USAGE,
     "invalid NUMA configuration 'id=0,colour=x'"),
    ('an unknown LPC device', '-l floppy,/dev/fd0 vm0', EX_USAGE,
     "invalid lpc device configuration 'floppy,/dev/fd0'"),
    ('a port without a back end', '-l com1 vm0', EX_USAGE,
     "invalid lpc device configuration 'com1'"),
    ('a boot ROM without a file', '-l bootrom vm0', 4,
     'invalid bootrom option "bootrom"'),
    ('a TPM without a type', '-l tpm vm0', 4, 'invalid tpm type "tpm"'),
    ('a TPM without a path', '-l tpm,swtpm vm0', 4,
     'invalid tpm path "tpm,swtpm"'),
    ('an option without a value', '-o key vm0', EX_USAGE,
     "invalid configuration option 'key'"),
    ('an option with an empty value', '-o key= vm0', EX_USAGE,
     "invalid configuration option 'key='"),
    ('a value below a value', '-o a=1 -o a.b=2 vm0', 4,
     'Configuration node a is a child of existing variable a'),
    ('a value in place of a node', '-o a.b=1 -o a=2 vm0', 4,
     'Attempting to add value 2 to existing node a'),
    ('no file', '-k {dir}/none vm0', 4,
     'Failed to open configuration file {dir}/none: '
     'No such file or directory'),
    ('a bad line', '-k {bad} vm0', 4,
     "{bad} line 3: invalid config option 'no value'"),
    ('no memory size', "-m '' vm0", EX_USAGE,
     'memory.size: the value is empty'),
    ('a bad memory size', '-m lots vm0', EX_USAGE, "invalid memsize 'lots'"),
    ('a memory size with two suffixes', '-m 1GG vm0', EX_USAGE,
     "invalid memsize '1GG'"),
    ('a memory size beyond all', '-m 16E vm0', EX_USAGE,
     "invalid memsize '16E'"),
    ('no memory', '-m 0 vm0', EX_USAGE, "invalid memsize '0'"),
    ('a PCI device without a name', '-s 3 vm0', 4,
     'Invalid PCI slot info field "3"'),
    ('a slot too high', '-s 32,lpc vm0', 4,
     'Invalid PCI slot info field "32,lpc"'),
    ('a function too high', '-s 1:8,lpc vm0', 4,
     'Invalid PCI slot info field "1:8,lpc"'),
    ('a bus too high', '-s 256:1:0,lpc vm0', 4,
     'Invalid PCI slot info field "256:1:0,lpc"'),
    ('a slot that is no number', '-s x,lpc vm0', 4,
     'Invalid PCI slot info field "x,lpc"'),
    ('an occupied slot', '-s 1,lpc -s 1:0,ahci,hd:/a vm0', 4,
     'pci slot 0:1:0 already occupied!'),
    ('a device that nobody ever had', '-s 1,floppy vm0', 4,
     'pci slot 0:1:0: unknown device "floppy"'),
    ('snapshots', '-r state vm0', 4,
     'state: restoring a snapshot (-r) is not available'),
    ('config.dump of no kind', '-o config.dump=maybe vm0', 4,
     'Invalid value maybe for boolean variable config.dump'),
    ('a name with a slash', 'a/b', 4, "invalid virtual machine name 'a/b'"),
    ('a name that hides', '..', 4, "invalid virtual machine name '..'"),
    ('a long name', 230 * 'x', 4,
     "invalid virtual machine name '" + 230 * 'x' + "'"),
    ('a name that refers to itself', '-o name=%(name)', 4,
     'name: references go too deep, the last to name'),
    ('nothing to boot', 'vm0', 4, 'virtual machine cannot be booted'),
    ('a topology that does not add up',
     '-c 4,sockets=3 -o boot.kernel={kernel} vm0', 4,
     'Topology (3 sockets, 1 cores, 1 threads) does not match 4 vCPUs'),
    ('a topology with a remainder',
     '-c 5,cores=2 -o boot.kernel={kernel} vm0', 4,
     'Topology (5 sockets, 2 cores, 1 threads) does not match 5 vCPUs'),
    ('no processors', '-c 0 -o boot.kernel={kernel} vm0', 4,
     "Invalid value for cpus: '0'"),
    ('many sockets',
     '-c sockets=65535,cores=65535 -o boot.kernel={kernel} vm0', 4,
     'Computed number of vCPUs too high: 4294836225'),
    ('more processors than there are', '-c 33 -o boot.kernel={kernel} vm0', 4,
     '33 vCPUs requested but only 32 available'),
    ('a flag of no kind',
     '-o x86.x2apic=perhaps -o boot.kernel={kernel} vm0', 4,
     'Invalid value perhaps for boolean variable x86.x2apic'),
    ('the boot ROM', '-s 31,lpc -l bootrom,ROM vm0', 4,
     'unknown LPC device "bootrom"'),
    ('the TPM', '-l tpm,swtpm,/x -o boot.kernel={kernel} vm0', 4,
     'unknown LPC device "tpm"'),
    ('the test device', '-l pc-testdev -o boot.kernel={kernel} vm0', 4,
     'unknown LPC device "pc-testdev"'),
    ('the debug server', '-G 1234 -o boot.kernel={kernel} vm0', 4,
     'the debug server (-G) is not available'),
    ('suspending at boot', '-d -o boot.kernel={kernel} vm0', 4,
     'suspending at boot (-d) is not available'),
    ('fw_cfg', '-f a,string=b -o boot.kernel={kernel} vm0', 4,
     'fw_cfg items (-f) are not available'),
    ('NUMA', '-n id=0,size=1G -o boot.kernel={kernel} vm0', 4,
     'NUMA domains (-n) are not available'),
    ('a processor that there is not',
     '-o engine=jit -o cpu=z80 -o boot.kernel={kernel} vm0', 4,
     'z80: unknown cpu model; there are: x86-64, x86-64-v2, x86-64-v3, '
     'x86-64-v4, host'),
    ('too little room for translated code',
     '-o jit.cache_size=64K -o boot.kernel={kernel} vm0', 4,
     "jit.cache_size: '64K' is not a size from 1M to 1G"),
    ('an unknown engine', '-o engine=steam -o boot.kernel={kernel} vm0', 4,
     None),
]

# Rows that get as far as making a machine, and so need an engine.
ENGINE_ERRORS = [
    ('pinning a vCPU that is not there', '-p 5:0 -o boot.kernel={kernel} vm0',
     4, 'vcpu.5.cpuset: the machine has 1 vCPUs'),
    ('pinning to a CPU that is not there',
     '-p 0:1023 -o boot.kernel={kernel} vm0', 4,
     'vCPU 0: none of the host CPUs it is pinned to is there'),
    ('a wrong list of CPUs', '-o vcpu.0.cpuset=1-x -o boot.kernel={kernel} vm0',
     4, "vcpu.0.cpuset: not a list of CPUs: '1-x'"),
    ('a device that there is not', '-s 2,nvme,/x -o boot.kernel={kernel} vm0',
     4, 'pci slot 0:2:0: unknown device "nvme"'),
    ('a disk that is not there', '-s 2,virtio-blk,{dir}/none '
     '-o boot.kernel={kernel} vm0', 4,
     "pci.0.2.0.path: '{dir}/none': cannot be opened: No such file or "
     'directory'),
    ('a wrong network', '-s 2,virtio-net,nope -o boot.kernel={kernel} vm0', 4,
     'pci.0.2.0: nope: no such backend (tapN, slirp, passt, p2p or switch)'),
    ('an unknown option of a disk', '-s 2,virtio-blk,{kernel},ro,colour=red '
     '-o boot.kernel={kernel} vm0', 4,
     'pci.0.2.0.colour: the device "virtio-blk" has no such option'),
    ('an alias as a device', '-o pci.0.2.0.device=amd_hostbridge '
     '-o boot.kernel={kernel} vm0', 4,
     'pci slot 0:2:0: legacy device "amd_hostbridge", use "hostbridge" '
     'instead'),
    ('no kernel', '-o boot.kernel={dir}/none vm0', 4,
     '{dir}/none: No such file or directory'),
    ('a kernel that is none', '-o boot.kernel={good} vm0', 4, None),
    ('a directory for a kernel', '-o boot.kernel={dir} vm0', 4,
     '{dir}: not a regular file'),
    ('a kernel larger than memory', '-m 1M -o boot.kernel={large} vm0', 4,
     "{large}: larger than the guest's memory"),
    ('no initrd', '-o boot.kernel={kernel} -o boot.initrd={dir}/none vm0', 4,
     '{dir}/none: No such file or directory'),
    ('an unknown protocol',
     '-o boot.kernel={kernel} -o boot.protocol=carrier-pigeon vm0', 4, None),
    ('a UUID that is none', '-U 1234 -o boot.kernel={kernel} vm0', 4, None),
    ('a serial port to nowhere',
     '-s 31,lpc -l com1,/dev/null -o boot.kernel={kernel} vm0', 4, None),
]


def multiboot(code):
    """A Multiboot kernel of these bytes, entered at the first of them."""
    base = 0x100000
    words = (0x1badb002, 0x10000, -(0x1badb002 + 0x10000) & 0xffffffff,
             base, base, 0, 0, base + 32)
    return b''.join(w.to_bytes(4, 'little') for w in words) + code


class Test:
    def __init__(self, bhyve, directory):
        self.bhyve = bhyve
        self.count = 0
        self.failed = 0
        self.paths = {'dir': directory}
        for name, content in (
                ('good', b'# a machine\n\nname=from-file\nmemory.size=1G\n'
                         b'pci.0.3.0.device=virtio-blk\n'
                         b'pci.0.3.0.path=/vms/%(name).img\n'),
                ('bad', b'name=x\n# fine\nno value\n'),
                ('kernel', multiboot(b'\xeb\xfe')),
                ('large', bytes(2 << 20))):
            path = os.path.join(directory, name)
            self.paths[name] = path
            with open(path, 'wb') as file:
                file.write(content)

    def case(self, name, problems, skip=None):
        self.count += 1
        if skip is not None:
            print(f'ok {self.count} - {name} # SKIP {skip}')
            return
        self.failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {self.count} - {name}')
        for line in '\n'.join(problems).split('\n'):
            if line:
                print(f'# {line}')

    def arguments(self, line):
        return [self.fill(word) for word in shlex.split(line)]

    def fill(self, text):
        for name, path in self.paths.items():
            text = text.replace('{' + name + '}', path)
        return text

    def run(self, arguments):
        return subprocess.run([self.bhyve] + arguments, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, check=False,
                              capture_output=True)

    def tree(self, name, line, expected):
        if expected.startswith('+'):
            word = shlex.split(line)[-1]
            expected = DEFAULTS + expected[1:]
            if 'name=' not in line.split('-f')[0]:
                expected += f'name={word}\n'
        # The request itself is in the tree, too: behind what has no dot.
        done = self.run(['-o', 'config.dump=1'] + self.arguments(line))
        said = done.stdout.replace('config.dump=1\n', '', 1)
        problems = []
        if said != expected:
            problems.append(f'expected:\n{expected}got:\n{said}')
        if done.returncode != 1:
            problems.append(f'exit status {done.returncode}')
        if done.stderr:
            problems.append(done.stderr)
        self.case(f'tree: {name}', problems)

    def error(self, name, line, status, sentence):
        done = self.run(self.arguments(line))
        problems = []
        if done.returncode != status:
            problems.append(f'exit status {done.returncode}, not {status}')
        if done.stdout:
            problems.append(f'printed: {done.stdout}')
        if sentence is not None and \
           done.stderr != f'bhyve: {self.fill(sentence)}\n':
            problems.append(f'said: {done.stderr}')
        if not done.stderr.startswith('bhyve: ') or \
           done.stderr.count('\n') != 1:
            problems.append(f'not one sentence: {done.stderr}')
        self.case(f'error: {name}', problems)

    def prints(self, name, arguments, status, out, err):
        """out and err are lines that must be there; None: nothing may be."""
        done = self.run(arguments)
        problems = []
        if done.returncode != status:
            problems.append(f'exit status {done.returncode}, not {status}')
        for what, text, wanted in (('stdout', done.stdout, out),
                                   ('stderr', done.stderr, err)):
            if wanted is None and text:
                problems.append(f'{what}: {text}')
            elif wanted is not None and wanted not in text:
                problems.append(f'no {wanted!r} in {what}: {text}')
        self.case(name, problems)


def main():
    with tempfile.TemporaryDirectory() as directory:
        test = Test(os.path.abspath(sys.argv[1]), directory)
        for row in TREES:
            test.tree(*row)
        for row in ERRORS:
            test.error(*row)
        if os.access('/dev/kvm', os.R_OK | os.W_OK):
            for name, line, status, sentence in ENGINE_ERRORS:
                test.error(name, '-o engine=kvm ' + line, status, sentence)
        else:
            for row in ENGINE_ERRORS:
                test.case(f'error: {row[0]}', [], 'no /dev/kvm')
        test.prints('-h', ['-h'], 0, HELP, None)
        test.prints('no arguments', [], 1, None, HELP)
        test.prints('two names', ['vm0', 'vm1'], 1, None, HELP)
        test.prints('an option behind the name', ['vm0', '-h'], 1, None, HELP)
        test.prints('an unknown option', ['-Z', 'vm0'], 1, None,
                    'bhyve: illegal option -- Z\n' + HELP)
        test.prints('no argument', ['-c'], 1, None,
                    'bhyve: option requires an argument -- c\n' + HELP)
        test.prints('-l help', ['-l', 'help'], 0, 'com1\ncom2\ncom3\ncom4\n',
                    None)
        test.prints('-l he', ['-l', 'he'], 0, 'com1\n', None)
        test.prints('-s help', ['-s', 'help'], 0, 'hostbridge\nlpc\n', None)
        print(f'1..{test.count}')
    return 1 if test.failed else 0


if __name__ == '__main__':
    sys.exit(main())
