#!/usr/bin/env python3
"""Boots a stock Debian kernel in QEMU and runs one command in it as root.

usage: vmtest.py [options] KERNEL -- COMMAND [ARG...]
       vmtest.py --list

`cargo xtask vm-test` runs the kernel tests with this; it works on its own as well.

KERNEL   "5.10", "6.1", "6.12", "7" (the newest such kernel on the mirror), or an exact
         ABI name such as 6.12.107+deb13-cloud-amd64.
COMMAND  runs in the guest as root with the host's argv and cwd, and its VMTEST_*, RUST_*,
         ORB8_TEST_* and ORB8_REQUIRE variables; its stdout and stderr come out on stdout, its
         exit code is this script's. 124: timeout. 125: the VM failed, its console's end is on stderr.
         126: something is missing here, and the message says what to install.

The guest is an initramfs made here: static busybox, the kernel's modules, COMMAND, the
files among its arguments and every --add file, each with the shared libraries that ldd
names. It has no root file system and no network, and the host needs no privileges: without
/dev/kvm it is plain emulation. bpffs, tracefs, debugfs, devpts and cgroup2 (all controllers
on) are mounted; modules load by themselves (veth, sch_ingress, cls_bpf, bridge, ...).

Needs an x86-64 host with the packages dpkg, qemu-system-x86 and python3. Kernels come
from the Debian mirror that apt uses (or VMTEST_MIRROR), checked against its index, and stay
in VMTEST_CACHE (~/.cache/vmtest).
"""
import argparse
import glob
import hashlib
import io
import json
import lzma
import os
import re
import shlex
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

TIMED_OUT, VM_FAILED, MISSING = 124, 125, 126
# What the guest sees of the host's environment.
PASSED_ON = ("VMTEST_", "ORB8_TEST_", "ORB8_REQUIRE", "RUST_")


def missing(what):
    """Ends with one line that says what this machine lacks."""
    print(f"vmtest: {what}", file=sys.stderr)
    sys.exit(MISSING)


def apt_mirror():
    """The Debian mirror that apt on this machine uses."""
    for f in sorted(glob.glob("/etc/apt/sources.list.d/*") + ["/etc/apt/sources.list"]):
        if os.path.exists(f):
            m = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian)/?(?:\s|$)", open(f).read(), re.M)
            if m:
                return m[1]
    missing("no Debian mirror in apt's sources: set VMTEST_MIRROR to one (http://HOST/debian)")


MIRROR = os.environ.get("VMTEST_MIRROR") or apt_mirror()
SUITES = os.environ.get("VMTEST_SUITES", "bullseye bookworm bookworm-backports trixie "
                        "trixie-backports forky").split()
CACHE = os.environ.get("VMTEST_CACHE", os.path.expanduser("~/.cache/vmtest"))
# What goes into the guest's /lib/modules (globs under kernel/, dependencies follow).
MODULES = """net/sched/* net/ipv4/* net/ipv6/* net/bridge/* net/netfilter/nf_* net/netfilter/nft_*
  net/netfilter/x_tables net/netfilter/xt_* net/netfilter/nfnetlink* net/8021q/* net/802/*
  net/tls/* net/unix/* net/packet/* net/core/* net/xfrm/* net/mptcp/* net/sctp/*
  drivers/net/veth drivers/net/dummy drivers/net/ifb drivers/net/tun drivers/net/tap
  drivers/net/vrf drivers/net/macvlan drivers/net/ipvlan/* drivers/net/vxlan* drivers/net/vxlan/*
  drivers/net/geneve drivers/net/wireguard/* drivers/net/bonding/* drivers/net/virtio_net
  drivers/net/nlmon drivers/virtio/* drivers/block/virtio_blk drivers/block/loop
  drivers/char/virtio_console drivers/tty/virtio_console fs/fuse/* fs/9p/* net/9p/* fs/overlayfs/*
  net/vmw_vsock/* lib/test_bpf""".split()

INIT = r'''#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox
export HOME=/root TERM=dumb LC_ALL=C
/bin/busybox mkdir -p /busybox /proc /sys /dev /tmp /run /root /var /etc
/bin/busybox --install -s /busybox
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmp /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
chmod 1777 /tmp; mkdir -p /run/netns; ln -sfn /run /var/run      # no tmpfs: files lie there
mount -t bpf bpf /sys/fs/bpf; mount -t tracefs trace /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug; mount -t securityfs sec /sys/kernel/security
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$c; done | while read c; do
  echo $c > /sys/fs/cgroup/cgroup.subtree_control; done
ip link set lo up; hostname vmtest; ulimit -l unlimited; ulimit -n 65536
echo 1 > /proc/sys/kernel/panic_on_oops
for tty in 1 2; do stty -F /dev/ttyS$tty raw -echo 2>/dev/null; done
echo "start $(cut -d' ' -f1 /proc/uptime) $(uname -r)" > /dev/ttyS2
setsid sh /vmtest.cmd < /dev/null > /dev/ttyS1 2>&1
echo "exit $? $(cut -d' ' -f1 /proc/uptime)" > /dev/ttyS2
reboot -f
'''


# ---- kernels from the mirror --------------------------------------------------------
def fetch(url, path, sha256=None, max_age=None):
    if os.path.exists(path) and (not max_age or time.time() - os.path.getmtime(path) < max_age):
        return path
    try:
        with urllib.request.urlopen(url, timeout=120) as r:
            data = r.read()
    except OSError as e:
        if os.path.exists(path):              # no network: an old index does
            return path
        missing(f"{url}: {e}")
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"vmtest: bad sha256: {url}")
    return store(path, data)


def store(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.{os.getpid()}", "wb") as f:
        f.write(data)
    os.rename(f.name, path)
    return path


def index():
    """{package: {Version, Filename, SHA256, Depends}} for linux-* and a few tools."""
    pkgs = {}
    for s in SUITES:
        xz = f"{CACHE}/index/{s}.xz"
        js = xz + ".json"
        try:
            fetch(f"{MIRROR}/dists/{s}/main/binary-amd64/Packages.xz", xz, max_age=7 * 86400)
        except SystemExit:                    # a suite that left the mirror; it was named
            continue
        if not os.path.exists(js) or os.path.getmtime(js) < os.path.getmtime(xz):
            found = {}
            for para in lzma.open(xz, "rt").read().split("\n\n"):
                if re.match(r"Package: (linux-(image|binary|modules|base)-\d\S*-amd64|busybox-static"
                            r"|qemu-system-(x86|common|data))\n", para):
                    p = dict(l.split(": ", 1) for l in para.splitlines() if ": " in l and l[0] != " ")
                    found.setdefault(p["Package"], []).append(
                        {k: p.get(k, "") for k in ("Version", "Filename", "SHA256", "Depends")})
            store(js, json.dumps(found).encode())
        for name, versions in json.load(open(js)).items():
            for v in versions:
                pkgs.setdefault(name, []).append(dict(v, suite=s))
    return pkgs


def vkey(v):
    return [int(x) for x in re.findall(r"\d+", v)]


def kernels(pkgs):
    """{abi: [package entries]} for kernels whose every part is on the mirror."""
    out = {}
    for name, vs in pkgs.items():
        m = re.match(r"linux-image-(\d\S*-amd64)$", name)
        if not m or "-rt-" in name:
            continue
        for v in vs:
            want = re.findall(r"(linux-(binary|modules|base)-\S+) \(= (\S+?)\)", v["Depends"])
            parts = [(t, next((p for p in pkgs.get(n, []) if p["Version"] == ver), None))
                     for n, t, ver in want]
            if all(p or t == "base" for t, p in parts):     # linux-base: config, System.map
                out[m[1]] = [v] + [p for _, p in parts if p]
    return out


def unpack(entries, dest):
    if not os.path.exists(dest):
        tmp = f"{dest}.{os.getpid()}"
        os.makedirs(tmp)
        for e in entries:
            deb = fetch(f"{MIRROR}/{e['Filename']}", f"{CACHE}/deb/{os.path.basename(e['Filename'])}",
                        e["SHA256"])
            subprocess.run(["dpkg-deb", "-x", deb, tmp], check=True)
        try:
            os.rename(tmp, dest)
        except OSError:                       # another vmtest was first
            shutil.rmtree(tmp)
    return dest


def resolve(spec, flavour, ks):
    if spec in ks or os.path.isdir(f"{CACHE}/kernel/{spec}"):
        return spec                           # exact, perhaps gone from the mirror since
    c = [a for a in ks if re.match(re.escape(spec) + r"[.+-]", a)
         and re.search(r"\d(\+deb\d+\S*?)?-" + re.escape(flavour) + "$", a)]
    if not c:
        missing(f"no {flavour} kernel {spec} on {MIRROR} (try --list)")
    return max(c, key=lambda a: (vkey(ks[a][0]["Version"]), a))


# ---- initramfs ------------------------------------------------------------------------
class Cpio:
    """newc archive; paths under /bin /sbin /lib /lib64 are put under /usr (merged-usr)."""
    def __init__(self):
        self.b, self.seen, self.ino = io.BytesIO(), set(), 0
        for d in ("bin", "sbin", "lib", "lib64"):
            self.dir(f"usr/{d}")
            self.add(d, f"usr/{d}".encode(), stat.S_IFLNK | 0o777)

    def add(self, path, data=b"", mode=stat.S_IFREG | 0o755, rdev=(0, 0)):
        path = path.strip("/")
        if path in self.seen:
            return
        if "/" in path:
            path = re.sub(r"^(bin|sbin|lib|lib64)/", r"usr/\1/", path)
            self.dir(os.path.dirname(path))
        self.seen.add(path)
        self.ino += 1
        f = [self.ino, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(path.encode()) + 1, 0]
        h = b"070701" + b"".join(b"%08X" % x for x in f) + path.encode() + b"\0"
        self.b.write(h + b"\0" * (-len(h) % 4) + data + b"\0" * (-len(data) % 4))

    def dir(self, path):
        if path and path.strip("/") not in self.seen:
            self.add(path, mode=stat.S_IFDIR | 0o755)

    def end(self):
        self.add("TRAILER!!!", mode=0)
        return self.b.getvalue() + b"\0" * (-self.b.tell() % 512)


def add_host(c, src, dest=None):
    """One host file (with its libraries, or its #! interpreter), or a whole directory."""
    dest = dest or src
    if os.path.isdir(src):
        for base, _, files in os.walk(src):
            c.dir(dest + base[len(src):])
            for f in files:
                add_host(c, f"{base}/{f}", f"{dest}{base[len(src):]}/{f}")
        return
    if not os.path.exists(src):
        return
    data = open(src, "rb").read()
    c.add(dest, data, stat.S_IFREG | (os.stat(src).st_mode & 0o777))
    if data[:4] == b"\x7fELF":
        out = subprocess.run(["ldd", src], capture_output=True, text=True).stdout
        for lib in re.findall(r"(?:=> )?(/\S+) \(0x", out):
            c.add(lib, open(lib, "rb").read())
    elif data[:2] == b"#!":
        interp = data[2:data.index(b"\n")].decode().split()
        for i in [interp[0]] + [shutil.which(a) for a in interp[1:2] if interp[0].endswith("/env")]:
            if i and "busybox" not in i:
                add_host(c, i)


def modinfo(ko):
    """The .modinfo strings of an ELF64 module."""
    off, = struct.unpack_from("<Q", ko, 0x28)
    size, num, strndx = struct.unpack_from("<HHH", ko, 0x3a)
    sh = [struct.unpack_from("<IIQQQQ", ko, off + i * size) for i in range(num)]
    return next((ko[o:o + n].decode(errors="replace").split("\0") for name, _, _, _, o, n in sh
                 if ko.startswith(b".modinfo\0", sh[strndx][4] + name)), [])


def add_modules(c, root, globs):
    """Wanted modules and their dependencies, decompressed, with modules.dep and .alias."""
    top = (glob.glob(f"{root}/lib/modules/*") + glob.glob(f"{root}/usr/lib/modules/*"))[0]
    rel, norm = os.path.basename(top), lambda n: os.path.basename(n).split(".ko")[0].replace("-", "_")
    files = {norm(f): f for f in glob.glob(f"{top}/kernel/**/*.ko*", recursive=True)}
    wanted = {norm(f) for g in globs for f in glob.glob(f"{top}/kernel/{g}.ko*")}
    mods = {}

    def load(name):
        if name in files and name not in mods:
            raw = open(files[name], "rb").read()
            raw = lzma.decompress(raw) if files[name].endswith(".xz") else raw
            info = [e.split("=", 1) for e in modinfo(raw) if "=" in e]
            deps = [d.replace("-", "_") for k, v in info if k == "depends" for d in v.split(",") if d]
            mods[name] = (raw, deps, [v for k, v in info if k == "alias"])
            for d in deps:
                load(d)
    for w in sorted(wanted):
        load(w)

    def closure(name, out):                   # post-order: what a module needs comes first
        for d in mods[name][1]:
            if d in mods and d not in out:
                closure(d, out)
                out.append(d)
        return out
    path = {n: "kernel/" + files[n].split("/kernel/")[-1].split(".ko")[0] + ".ko" for n in mods}
    dep = "".join(f"{path[n]}:{''.join(' ' + path[d] for d in closure(n, [])[::-1])}\n"
                  for n in mods)              # modprobe loads the last one first
    alias = "".join(f"alias {a} {n}\n" for n in mods for a in mods[n][2])
    base = f"lib/modules/{rel}"
    for n, (raw, _, _) in mods.items():
        c.add(f"{base}/{path[n]}", raw, stat.S_IFREG | 0o644)
    c.add(f"{base}/modules.dep", dep.encode(), stat.S_IFREG | 0o644)
    c.add(f"{base}/modules.alias", alias.encode(), stat.S_IFREG | 0o644)
    for f in glob.glob(f"{top}/modules.builtin*"):
        c.add(f"{base}/{os.path.basename(f)}", open(f, "rb").read(), stat.S_IFREG | 0o644)
    for f in glob.glob(f"{root}/boot/config-*") + glob.glob(f"{top}/config"):
        c.add(f"boot/config-{rel}", open(f, "rb").read(), stat.S_IFREG | 0o644)


def base_image(abi, entries, pkgs, globs):
    key = hashlib.sha256((open(__file__).read() + abi + " ".join(globs)).encode()).hexdigest()[:12]
    path = f"{CACHE}/initrd/{abi}-{key}.cpio"
    root = unpack(entries, f"{CACHE}/kernel/{abi}")
    if not os.path.exists(path):
        bb = max((e for e in pkgs["busybox-static"] if e["suite"] == "bookworm"),
                 key=lambda e: vkey(e["Version"]))
        c = Cpio()
        c.add("bin/busybox", open(unpack([bb], f"{CACHE}/busybox") + "/bin/busybox", "rb").read())
        c.add("sbin/modprobe", b"/bin/busybox", stat.S_IFLNK | 0o777)
        c.add("bin/sh", b"/bin/busybox", stat.S_IFLNK | 0o777)
        c.add("init", INIT.encode())
        c.dir("dev")
        c.add("dev/console", mode=stat.S_IFCHR | 0o600, rdev=(5, 1))
        c.add("dev/null", mode=stat.S_IFCHR | 0o666, rdev=(1, 3))
        c.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        c.add("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        c.add("etc/hosts", b"127.0.0.1 localhost vmtest\n::1 localhost\n")
        add_modules(c, root, globs)
        store(path, c.end())
    vmlinuz = (glob.glob(f"{root}/boot/vmlinuz-*") + glob.glob(f"{root}/usr/lib/modules/*/vmlinuz"))[0]
    return vmlinuz, path


# ---- run --------------------------------------------------------------------------------
def qemu(choice, accel, pkgs):
    """QEMU 7.2's TCG corrupts guests when the host is busy; QEMU 10.0's has not been seen to."""
    if choice == "auto":
        exe = shutil.which("qemu-system-x86_64") or missing(
            "no qemu-system-x86_64: apt-get install qemu-system-x86")
        ver = subprocess.run([exe, "--version"], capture_output=True, text=True).stdout
        old = accel == "tcg" and int(re.search(r"version (\d+)", ver)[1]) < 8
        choice = "debian:bookworm-backports" if old else exe
    if choice.startswith("debian:"):          # a newer one, unpacked next to the installed one
        es = [max((e for e in pkgs[n] if e["suite"] == choice[7:]), key=lambda e: vkey(e["Version"]))
              for n in ("qemu-system-x86", "qemu-system-common", "qemu-system-data")]
        d = unpack(es, f"{CACHE}/qemu-{es[0]['Version'].replace(':', '_')}")
        return [f"{d}/usr/bin/qemu-system-x86_64", "-L", f"{d}/usr/share/qemu",
                "-L", "/usr/share/seabios", "-L", "/usr/lib/ipxe/qemu"]
    return [choice]


def real_kvm():
    """Hardware KVM only: a nested software KVM (kvm_pvm) has /dev/kvm but no stock guest boots."""
    return (os.access("/dev/kvm", os.R_OK | os.W_OK) and not os.path.exists("/sys/module/kvm_pvm")
            and (os.path.exists("/sys/module/kvm_intel") or os.path.exists("/sys/module/kvm_amd")))


def read(path):
    return open(path, errors="replace").read().replace("\r", "") if os.path.exists(path) else ""


def machine(a, qemu_cmd, vmlinuz, initrd, work):
    """The QEMU command line: console, COMMAND's output and the status on a serial port each."""
    return [*qemu_cmd, "-accel", a.accel, "-M", "q35", "-cpu", "host" if a.accel == "kvm" else "max",
            "-smp", str(a.smp), "-m", str(a.mem), "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-kernel", vmlinuz, "-initrd", initrd, "-append",
            f"console=ttyS0 panic=-1 oops=panic cryptomgr.notests=1 rdinit=/init "
            f"{'' if a.verbose else 'quiet'} {a.append}".strip(),
            "-serial", f"file:{work}/console", "-chardev", "stdio,id=out,signal=off",
            "-serial", "chardev:out", "-serial", f"file:{work}/status"]


def run(a, qemu_cmd, vmlinuz, base, payload):
    """Boots once. Returns the exit code, and whether COMMAND started."""
    with tempfile.TemporaryDirectory(prefix="vmtest.") as work:
        initrd = f"{work}/initrd"
        with open(initrd, "wb") as f:
            f.write(open(base, "rb").read() + payload)
        t0 = time.time()
        try:
            rc = subprocess.run(machine(a, qemu_cmd, vmlinuz, initrd, work),
                                stdin=subprocess.DEVNULL, timeout=a.timeout).returncode
        except subprocess.TimeoutExpired:
            rc = TIMED_OUT
        wall = time.time() - t0
        status, console = read(f"{work}/status"), read(f"{work}/console")
    start = re.search(r"^start (\S+) (\S+)", status, re.M)
    end = re.search(r"^exit (\d+) (\S+)", status, re.M)
    if a.verbose or not end:
        sys.stderr.write(console if a.verbose else console[-4000:])
    if a.times:
        print(f"vmtest: accel={a.accel} kernel={start and start[2]} boot={start and start[1]}s "
              f"end={end and end[2]}s wall={wall:.2f}s", file=sys.stderr)
    if end:
        return int(end[1]), True
    return TIMED_OUT if rc == TIMED_OUT else VM_FAILED, bool(start)


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:],
                                epilog="The head of this file says what it needs.")
    p.add_argument("--list", action="store_true", help="kernels the mirror has")
    p.add_argument("--flavour", default="cloud-amd64", help="cloud-amd64 (default) or amd64")
    p.add_argument("--add", action="append", default=[], metavar="HOST[:GUEST]", help="file or directory")
    p.add_argument("--modules", default="", help="more module globs under kernel/, comma separated")
    p.add_argument("--append", default="", help="more kernel command line")
    p.add_argument("--accel", default="auto", choices=["auto", "kvm", "tcg"])
    p.add_argument("--qemu", default=os.environ.get("VMTEST_QEMU", "auto"),
                   help="binary, or debian:SUITE to unpack that suite's")
    p.add_argument("--smp", type=int, default=1)
    p.add_argument("--mem", type=int, default=1024)
    p.add_argument("--timeout", type=float, default=300)
    p.add_argument("--tries", type=int, default=3, help="boots to try until COMMAND starts")
    p.add_argument("--times", action="store_true")
    p.add_argument("--verbose", action="store_true", help="whole console on stderr")
    p.add_argument("kernel", nargs="?")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a, command = p.parse_args(sys.argv[1:cut]), sys.argv[cut + 1:]

    if not shutil.which("dpkg-deb"):
        missing("no dpkg-deb, which unpacks the kernels: apt-get install dpkg")
    pkgs = index()
    ks = kernels(pkgs)
    if a.list:
        for abi in sorted(ks, key=lambda k: vkey(ks[k][0]["Version"])):
            print(f"{ks[abi][0]['suite']:20} {abi}")
        return 0
    if not a.kernel or not command:
        p.error("KERNEL -- COMMAND wanted")
    abi = resolve(a.kernel, a.flavour, ks)
    vmlinuz, base = base_image(abi, ks.get(abi), pkgs, MODULES + [g for g in a.modules.split(",") if g])

    c = Cpio()
    exe = shutil.which(command[0])
    if exe:                                   # else: a busybox applet, or something --add brings
        add_host(c, os.path.abspath(exe))
        command = [os.path.abspath(exe)] + command[1:]
    for arg in command[1:]:                   # files named as arguments come along
        if os.path.isfile(arg):
            add_host(c, os.path.abspath(arg))
    for spec in a.add:
        src, _, dest = spec.partition(":")
        if not os.path.exists(src):
            src = shutil.which(src) or missing(f"no such file: {src}")
        add_host(c, os.path.abspath(src), dest or None)
    env = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in os.environ.items()
                  if k.startswith(PASSED_ON) and k not in ("VMTEST_CACHE", "VMTEST_QEMU"))
    cwd = shlex.quote(os.getcwd())
    c.add("vmtest.cmd", f"date -s @{time.time():.0f} >/dev/null\n{env}mkdir -p {cwd}; cd {cwd}\n"
                        f"exec {shlex.join(command)}\n".encode())
    if a.accel == "auto":
        a.accel = "kvm" if real_kvm() else "tcg"
    payload, q = c.end(), qemu(a.qemu, a.accel, pkgs)
    for left in range(a.tries - 1, -1, -1):
        rc, started = run(a, q, vmlinuz, base, payload)
        if started or left == 0:
            return rc
        print("vmtest: guest died before COMMAND started, booting again", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
