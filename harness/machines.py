"""Kernels built of one tree, each with other contents of some files, and machines that run them: for guards.py."""

import os
import pathlib
import re
import subprocess
import threading

import apply

HERE = pathlib.Path(__file__).resolve().parent
# A test that waits for something is not waited for longer than that.
SECONDS = 240


class MachineError(Exception):
    """A kernel that cannot be configured or built, in words for the user."""


class Machine:
    """A kernel of the tree in build/guards: what it is called, how it is built."""
    name = arch = target = None

    def __init__(self, tree):
        self.tree = tree
        self.place = tree.build / "guards"
        self.linux, self.out = self.place / "linux", self.place / self.name
        self.out.mkdir(parents=True, exist_ok=True)
        compiler = "ccache gcc" if any(os.access(pathlib.Path(d) / "ccache", os.X_OK)
                                       for d in os.get_exec_path()) else "gcc"
        self.env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "CCACHE_BASEDIR": str(tree.top),
                    "CCACHE_NOHASHDIR": "1", "BUILD": str(self.place)}
        self.make = ["make", "-s", "-C", self.linux, f"ARCH={self.arch}", f"O={self.out}", f"CC={compiler}",
                     f"-j{os.cpu_count()}"]

    def call(self, log, command, **more):
        with open(self.place / log, "w") as out:
            return subprocess.run(command, env=self.env, stdout=out, stderr=subprocess.STDOUT, **more).returncode

    def prepare(self, files):
        """The kernel with all its guards."""
        apply.lay(self.tree, self.linux, files)
        log = f"all.{self.name}"
        if not self.configure(f"{log}.config.log") or not self.build(files, log):
            raise MachineError(f"{self.name} cannot be built: see {self.place}/{log}.*")

    def build(self, files, log):
        apply.lay(self.tree, self.linux, files)
        return not self.call(f"{log}.build.log", [*self.make, self.target])


class Uml(Machine):
    """KUnit in a process."""
    name, arch, target = "uml", "um", "linux"

    def configure(self, log):
        return not self.call(log, ["python3", "tools/testing/kunit/kunit.py", "config", f"--build_dir={self.out}",
                                   "--kunitconfig=lib/kunit-tests/.kunitconfig"], cwd=self.linux)

    def run(self, glob, log, seconds=SECONDS, enough=None, parameters=""):
        """The console's lines, up to the first that is enough; a test that hangs ends with the time it has."""
        lines = []
        with open(self.place / f"{log}.log", "w") as copy, subprocess.Popen(
                ["./linux", "mem=512M", "console=tty", "kunit_shutdown=halt", f"kunit.filter_glob={glob}",
                 "kunit.filter=speed>slow"], cwd=self.out, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace") as uml:
            # Not by its group: it leaves that.
            limit = threading.Timer(seconds, uml.kill)
            limit.start()
            for line in uml.stdout:
                copy.write(line)
                lines.append(line.rstrip("\n"))
                if enough and enough.match(line):
                    uml.kill()
                    break
            limit.cancel()
        return lines


class X86(Machine):
    """KUnit with real huge pages, poison and page tables, in QEMU."""
    name, arch, target = "x86", "x86_64", "bzImage"
    pools = "hugetlb_free_vmemmap=on hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=3"

    def configure(self, log):
        fragments = [HERE / "configs" / f"{name}.config" for name in ("base", "suites", "guards")]
        self.env["TREE"] = str(self.linux)
        # An archive of nothing: the suites end before it would be looked for a program.
        (self.place / "empty.cpio").write_bytes(bytes(512))
        return not self.call(log, [HERE / "config.sh", self.out, *fragments])

    def boot(self, log, seconds, append, *options):
        """The kernel's messages."""
        self.call(f"{log}.qemu.log", [
            HERE / "qemu.sh", "--kernel", self.out / "arch/x86/boot/bzImage", "--log", self.place / f"{log}.log",
            "--timeout", str(seconds), "--memory", "6G", *options,
            "--append", f"printk.time=0 oops=panic numa=fake=2 {self.pools} {append}"])
        return (self.place / f"{log}.log").read_text(errors="replace").splitlines()

    def run(self, glob, log, seconds=SECONDS, enough=None, parameters=""):
        return self.boot(log, seconds, f"kunit.filter_glob={glob} kunit.filter=speed>slow kunit_shutdown=poweroff",
                         "--initrd", self.place / "empty.cpio")


class Programs(X86):
    """Selftests of KVM's on that kernel."""

    def pack(self, names):
        programs = self.place / "selftests"
        if self.call("selftests.log", [HERE / "selftests.sh", self.linux, self.out, programs, *names]) or \
                self.call("pack.log", [HERE / "pack-tests.sh", self.place / "guest.cpio", self.out, programs],
                          stdin=self.listed(names)):
            raise MachineError(f"the selftests cannot be built: see {self.place}/selftests.log and pack.log")

    def listed(self, names):
        path = self.place / "selftests.list"
        path.write_text("".join(f"{name} {SECONDS} guard\n" for name in names))
        return open(path)

    def run(self, test, log, seconds=SECONDS, enough=None, parameters=""):
        """What the program says, for a PROGRAM.TEST; a warning ends it, and that shows in what is missing then."""
        program, name = test.split(".")
        results = self.place / f"{log}.program.log"
        self.boot(log, seconds, f"plan=guard panic_on_warn=1 kunit.enable=0 kvm.gmem_in_place_conversion=1 "
                  f"GUESTMEM_TEST_PERMILLE=50 PROGRAM={program} TEST={name} {parameters}",
                  "--initrd", self.place / "guest.cpio", "--results", results)
        return results.read_text(errors="replace").splitlines()


def outcome(lines, suite, test):
    """passes, skips or fails, as KUnit's own line for a test says; None if there is none though its suite ended."""
    begun = ended = False
    for line in lines:
        if begun and not ended and kunit_failure(test).match(line):
            return "fails"
        begun |= line == f"    # Subtest: {suite}"
        ended |= bool(re.match(rf"(not )?ok \d+ {suite}\b", line))
        result = re.match(rf"    (not )?ok \d+ {test}( # SKIP.*)?$", line)
        if begun and not ended and result:
            return "fails" if result[1] else "skips" if result[2] else "passes"
    return "does not end" if begun and not ended else None


def kunit_failure(test):
    """What KUnit says at once, and what makes the test fail in the end."""
    return re.compile(rf" +# {test}: (EXPECTATION|ASSERTION) FAILED")


def program_outcome(lines, program, test):
    """As outcome(), of a selftest's lines between the two marks that init puts around them."""
    if f"@begin {program}" not in lines:
        return None
    status = [line.split()[2] for line in lines if line.startswith(f"@end {program} ")]
    if not status:
        return "does not end"
    ran = [line for line in lines if re.match(rf"(not )?ok \d+ \S+\.{test}\b", line)]
    # 127: there is no such program.
    if not ran:
        return None if status[0] in ("0", "127") else "fails"
    if all("# SKIP" in line for line in ran):
        return "skips"
    return "passes" if status == ["0"] else "fails"
