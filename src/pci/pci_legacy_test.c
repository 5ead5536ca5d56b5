/*
 * Each device's words, and the keys that bhyve makes of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/pci_legacy.h"

static const struct {
	const char *device, *conf, *tree;
} rows[] = {
	{ "lpc", NULL, "device=lpc\n" },
	{ "hostbridge", NULL, "device=hostbridge\n" },
	{ "hostbridge", "model=i440fx", "device=hostbridge\nmodel=i440fx\n" },
	{ "amd_hostbridge", NULL,
	    "device=hostbridge\npcireg.vendor=0x1022\npcireg.device=0x7432\n" },
	{ "hda", "play=/dev/dsp0,rec=/dev/dsp0",
	    "device=hda\nplay=/dev/dsp0\nrec=/dev/dsp0\n" },
	{ "fbuf", "tcp=0.0.0.0:5900,w=800,h=600,wait",
	    "device=fbuf\ntcp=0.0.0.0:5900\nw=800\nh=600\nwait=true\n" },
	{ "virtio-rnd", "", "device=virtio-rnd\n" },
	{ "anything", "a=b=c,d,,e=f,",
	    "device=anything\na=b=c\nd=true\ne=f\n" },

	{ "virtio-blk", "/vm/a=b.img,ro,sectorsize=512/4096",
	    "device=virtio-blk\npath=/vm/a=b.img\nro=true\n"
	    "sectorsize=512/4096\n" },
	{ "virtio-blk", NULL, "device=virtio-blk\n" },
	{ "virtio-input", "/dev/input/event3",
	    "device=virtio-input\npath=/dev/input/event3\n" },
	{ "nvme", "/vm/disk,maxq=4", "device=nvme\npath=/vm/disk\nmaxq=4\n" },
	{ "nvme", "ram=64,ser=x", "device=nvme\nram=64\nser=x\n" },

	{ "virtio-net", "tap0,mac=02:00:00:00:00:01",
	    "device=virtio-net\nbackend=tap0\nmac=02:00:00:00:00:01\n" },
	{ "virtio-net", "backend=tap0,mtu=9000",
	    "device=virtio-net\nbackend=tap0\nmtu=9000\n" },
	{ "e1000", "slirp,open", "device=e1000\nbackend=slirp\nopen=true\n" },
	{ "virtio-net-viona", "net0", "device=virtio-net-viona\nvnic=net0\n" },
	{ "virtio-net-viona", "vqsize=1024,net0",
	    "device=virtio-net-viona\nvqsize=1024\nvnic=net0\n" },

	{ "uart", "socket,/tmp/tty", "device=uart\npath=socket,/tmp/tty\n" },
	{ "virtio-console", "org.a=/tmp/a,b=/tmp/b=c",
	    "device=virtio-console\nport.0.name=org.a\nport.0.path=/tmp/a\n"
	    "port.1.name=b\nport.1.path=/tmp/b=c\n" },
	{ "virtio-9p", "home=/export/home,ro",
	    "device=virtio-9p\nsharename=home\npath=/export/home\nro=true\n" },
	{ "virtio-9p", "rw,a=/b=c",
	    "device=virtio-9p\nro=false\nsharename=a\npath=/b=c\n" },

	{ "ahci-hd", "/a,ro",
	    "device=ahci\nport.0.type=hd\nport.0.path=/a\nport.0.ro=true\n" },
	{ "ahci-cd", NULL, "device=ahci\nport.0.type=cd\n" },
	{ "ahci", "hd:/a,nmrr=1,cd:/b,hd:/hd:,cd:",
	    "device=ahci\nport.0.type=hd\nport.0.path=/a\nport.0.nmrr=1\n"
	    "port.1.type=cd\nport.1.path=/b\nport.2.type=hd\n"
	    "port.2.path=/hd:\nport.3.type=cd\n" },
	{ "ahci", "", "device=ahci\n" },
	{ "virtio-scsi", "/dev/sg1,num_queues=2",
	    "device=virtio-scsi\ntarget.0=/dev/sg1\nnum_queues=2\n" },
	{ "virtio-scsi", "target=4:/dev/sg1,target=/dev/by:path/sg2",
	    "device=virtio-scsi\ntarget.4=/dev/sg1\n"
	    "target.5=/dev/by:path/sg2\n" },
	{ "xhci", "tablet", "device=xhci\nslot.1.device=tablet\n" },
	{ "xhci", "tablet,tablet=a=b",
	    "device=xhci\nslot.1.device=tablet\nslot.2.device=tablet\n"
	    "slot.2.a=b\n" },

	{ "passthru", "2/0/1", "device=passthru\nbus=2\nslot=0\nfunc=1\n" },
	{ "passthru", "pci2:0:1,rom=/r",
	    "device=passthru\nbus=2\nslot=0\nfunc=1\nrom=/r\n" },
	{ "passthru", "pci0:2:0:1",
	    "device=passthru\nbus=2\nslot=0\nfunc=1\n" },
	{ "passthru", "ppt0", "device=passthru\npptdev=ppt0\n" },
	{ "passthru", "/dev/ppt0,bootindex=1",
	    "device=passthru\npath=/dev/ppt0\nbootindex=1\n" },
};

static void
words_become_keys(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config *root = config_new();
		struct err err = { 0 };
		char *text;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		if (pci_legacy_conf(root, rows[i].device, rows[i].conf, &err) <
		    0)
			fail_msg("%s,%s: %s", rows[i].device, rows[i].conf,
			    err.msg);
		assert_int_equal(config_dump(root, out, NULL), 0);
		(void)fclose(out);
		assert_string_equal(text, rows[i].tree);
		free(text);
		config_free(root);
	}
}

static void
what_no_device_can_mean(void **state)
{
	static const struct {
		const char *device, *conf, *msg;
	} bad[] = {
		{ "virtio-blk",
		    "/a,ser=", "invalid configuration option 'ser='" },
		{ "ahci", "/a", "ahci: \"/a\" begins neither hd: nor cd:" },
		{ "virtio-console", "name",
		    "vtcon: port name requires a path" },
		{ "virtio-console",
		    "a=/a,a=/a,a=/a,a=/a,a=/a,a=/a,a=/a,a=/a,a=/a,a=/a,a=/a,"
		    "a=/a,a=/a,a=/a,a=/a,a=/a,a=/a",
		    "vtcon: too many ports" },
		{ "virtio-9p", "a=/a,b=/b",
		    "virtio-9p: more than one share name given" },
		{ "virtio-scsi", "target=1:/a,target=1:/b",
		    "virtio-scsi: cannot add '/b' as target 1" },
		{ "virtio-scsi", "target=256:/a",
		    "virtio-scsi: invalid target id \"256\"" },
		{ "virtio-scsi", "target=255:/a,target=/b",
		    "virtio-scsi: cannot add '/b' as target 256" },
		{ "passthru", "2/0", "passthru: invalid options \"2/0\"" },
		{ "passthru", "2/0/x", "passthru: invalid options \"2/0/x\"" },
		{ "passthru", "pci1:2:0:1",
		    "passthru: invalid options \"pci1:2:0:1\"" },
		{ "passthru", "pci0:1:2:0:1",
		    "passthru: invalid options \"pci0:1:2:0:1\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct config *root = config_new();
		struct err err = { 0 };

		assert_true(pci_legacy_conf(root, bad[i].device, bad[i].conf,
				&err) < 0);
		assert_string_equal(err.msg, bad[i].msg);
		config_free(root);
	}
}

static void
ahci_has_32_ports(void **state)
{
	char conf[33 * 4 + 1] = "";
	struct config *root = config_new();
	struct err err = { 0 };

	for (unsigned i = 0; i < 32; i++)
		strcat(conf, i == 0 ? "hd:" : ",hd:");
	assert_int_equal(pci_legacy_conf(root, "ahci", conf, NULL), 0);
	assert_true(config_has(root, "port.31.type"));
	strcat(conf, ",cd:");
	assert_int_equal(pci_legacy_conf(root, "ahci", conf, &err), -EINVAL);
	assert_string_equal(err.msg, "ahci: more than 32 ports");
	config_free(root);
}

static void
aliases(void **state)
{
	assert_string_equal(pci_legacy_alias("amd_hostbridge"), "hostbridge");
	assert_string_equal(pci_legacy_alias("ahci-cd"), "ahci");
	assert_null(pci_legacy_alias("ahci"));
	assert_null(pci_legacy_alias("nothing"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_become_keys),
		cmocka_unit_test(what_no_device_can_mean),
		cmocka_unit_test(ahci_has_32_ports),
		cmocka_unit_test(aliases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
