//! Packages that are made, and taken apart again by the tools that install them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::contents::{CONFIG, UNIT};
use super::{Format, make};
use crate::workspace::{Unavailable, output, root};

/// Not a macro: the harness keeps to itself what a test that passes prints by one.
fn skip(test: &str, reason: &str) {
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("standard error");
}

/// A folder with programs that are small and start on this machine.
fn stand_ins() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["orb8", "orb8-agent"] {
        fs::copy("/usr/bin/true", folder.path().join(name)).unwrap();
    }
    folder
}

/// Makes packages, or says why that cannot be done here.
fn made(test: &str, format: Format, binaries: &Path, out: &Path) -> Option<Vec<PathBuf>> {
    match make(binaries, out, &[format]) {
        Ok(packages) => Some(packages),
        Err(error) if error.is::<Unavailable>() => {
            skip(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    output(Command::new(program).args(arguments)).unwrap()
}

/// What both kinds of packages have to hold.
const HELD: [(&str, &[&str]); 2] = [
    (
        "orb8",
        &[
            "usr/bin/orb8",
            "usr/share/man/man1/orb8.1.gz",
            "usr/share/man/man1/orb8-flows.1.gz",
            "usr/share/bash-completion/completions/orb8",
            "usr/share/fish/vendor_completions.d/orb8.fish",
        ],
    ),
    ("orb8-agent", &["usr/bin/orb8-agent", "usr/share/man/man8/orb8-agent.8.gz", UNIT, CONFIG]),
];

#[test]
fn debian_packages_hold_what_they_should() {
    let (programs, out) = (stand_ins(), tempfile::tempdir().unwrap());
    let test = "debian_packages_hold_what_they_should";
    let Some(packages) = made(test, Format::Deb, programs.path(), out.path()) else { return };
    for ((name, held), package) in HELD.iter().zip(&packages) {
        let package = package.to_str().unwrap();
        let field = |field: &str| run("dpkg-deb", &["--field", package, field]);
        assert_eq!(field("Package"), *name);
        assert_eq!(field("Version"), env!("CARGO_PKG_VERSION"));
        assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));
        let root = tempfile::tempdir().unwrap();
        run("dpkg-deb", &["--extract", package, root.path().to_str().unwrap()]);
        let documents = [
            format!("usr/share/doc/{name}/copyright"),
            format!("usr/share/doc/{name}/changelog.gz"),
        ];
        let documents = documents.iter().map(String::as_str);
        for file in held.iter().copied().chain(documents) {
            let path = root.path().join(file);
            let mode = fs::metadata(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            let is_program = file.starts_with("usr/bin/");
            let expected = if is_program { 0o755 } else { 0o644 };
            assert_eq!(mode.permissions().mode() & 0o777, expected, "{file}");
        }
        let contents = run("dpkg-deb", &["--contents", package]);
        assert!(contents.lines().all(|line| line.contains(" root/root ")), "{contents}");
    }
    let cli = run("dpkg-deb", &["--contents", packages[0].to_str().unwrap()]);
    assert!(cli.contains("/usr/share/zsh/vendor-completions/_orb8"), "{cli}");
    let agent = packages[1].to_str().unwrap();
    let control = tempfile::tempdir().unwrap();
    run("dpkg-deb", &["--control", agent, control.path().to_str().unwrap()]);
    let conffiles = fs::read_to_string(control.path().join("conffiles")).unwrap();
    assert_eq!(conffiles, format!("/{CONFIG}\n"), "an upgrade would overwrite settings");
    for script in ["postinst", "prerm", "postrm"] {
        run("sh", &["-n", control.path().join(script).to_str().unwrap()]);
    }
}

/// dpkg with a root of its own, of which its scripts are told, so that nothing of this machine changes.
struct Dpkg {
    place: TempDir,
}

impl Dpkg {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let database = place.path().join("var/lib/dpkg");
        for folder in ["info", "updates", "triggers"] {
            fs::create_dir_all(database.join(folder)).unwrap();
        }
        fs::write(database.join("status"), "").unwrap();
        Self { place }
    }

    fn run(&self, action: &[&str]) {
        let output = Command::new("dpkg")
            .arg(format!("--root={}", self.place.path().display()))
            // What the package depends on is not in there.
            .args(["--force-depends", "--force-not-root", "--force-script-chrootless"])
            .args(["--force-confold"])
            .args(action)
            .output()
            .unwrap();
        assert!(output.status.success(), "{action:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.place.path().join(file)
    }
}

#[test]
fn dpkg_installs_upgrades_removes_and_purges_the_agent() {
    let test = "dpkg_installs_upgrades_removes_and_purges_the_agent";
    let (programs, out) = (stand_ins(), tempfile::tempdir().unwrap());
    let Some(packages) = made(test, Format::Deb, programs.path(), out.path()) else { return };
    let (dpkg, package) = (Dpkg::new(), packages[1].to_str().unwrap());
    dpkg.run(&["--install", package]);
    assert!(dpkg.path("usr/bin/orb8-agent").is_file() && dpkg.path(UNIT).is_file());
    let settings = dpkg.path(CONFIG);
    assert!(settings.is_file());
    let wanted = dpkg.path("etc/systemd/system/multi-user.target.wants/orb8-agent.service");
    if Command::new("deb-systemd-helper").arg("--help").output().is_ok() {
        assert!(wanted.is_symlink(), "it would not start with the machine");
    } else {
        skip(test, "whether it is enabled: deb-systemd-helper is not installed");
    }

    fs::write(&settings, "log = \"debug\"\n").unwrap();
    dpkg.run(&["--install", package]);
    let kept = || fs::read_to_string(&settings).unwrap_or_default();
    assert_eq!(kept(), "log = \"debug\"\n", "an upgrade keeps settings");
    dpkg.run(&["--remove", "orb8-agent"]);
    assert!(!dpkg.path("usr/bin/orb8-agent").exists());
    assert_eq!(kept(), "log = \"debug\"\n", "so does a removal");
    dpkg.run(&["--purge", "orb8-agent"]);
    assert!(!settings.exists() && !wanted.is_symlink());
}

#[test]
fn rpm_packages_hold_what_they_should() {
    let (programs, out) = (stand_ins(), tempfile::tempdir().unwrap());
    let test = "rpm_packages_hold_what_they_should";
    let Some(packages) = made(test, Format::Rpm, programs.path(), out.path()) else { return };
    for ((name, held), package) in HELD.iter().zip(&packages) {
        let query = |what: &[&str]| {
            let mut arguments = vec!["--query", "--nosignature", "--package"];
            arguments.push(package.to_str().unwrap());
            arguments.extend(what);
            run("rpm", &arguments)
        };
        let tags = query(&["--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}"]);
        let cpu = std::env::consts::ARCH;
        assert_eq!(tags, format!("{name} {} {cpu} Apache-2.0", env!("CARGO_PKG_VERSION")));
        let files = query(&["--list"]);
        let files: BTreeSet<&str> = files.lines().collect();
        for file in *held {
            assert!(files.contains(&*format!("/{file}")), "{file} is not in {files:?}");
        }
        // Found by rpmbuild in the program itself.
        assert!(query(&["--requires"]).contains("libc.so.6"), "{}", query(&["--requires"]));
        let owners = query(&["--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]"]);
        assert!(owners.lines().all(|owner| owner == "root:root"), "{owners}");
    }
    let agent = packages[1].to_str().unwrap();
    let of_agent = |what: &str| run("rpm", &["--query", "--nosignature", "--package", agent, what]);
    assert_eq!(of_agent("--configfiles"), format!("/{CONFIG}"));
    assert!(
        of_agent("--scripts").contains("preset orb8-agent.service"),
        "{}",
        of_agent("--scripts")
    );
}

#[test]
fn the_tarball_unpacks_into_usr_local() {
    let (programs, out) = (stand_ins(), tempfile::tempdir().unwrap());
    let tarball = make(programs.path(), out.path(), &[Format::Tar]).unwrap().remove(0);
    let listed = run("tar", &["--list", "--file", tarball.to_str().unwrap()]);
    let files: BTreeSet<&str> = listed.lines().collect();
    for file in [
        "bin/orb8",
        "bin/orb8-agent",
        "share/man/man1/orb8.1.gz",
        "share/man/man8/orb8-agent.8.gz",
        "share/orb8/agent.toml",
        "share/orb8/orb8-agent.service",
        "share/orb8/LICENSE",
        "share/zsh/site-functions/_orb8",
    ] {
        assert!(files.contains(file), "{file} is not in {files:?}");
    }
    let is_below = |file: &&str| file.starts_with("bin/") || file.starts_with("share/");
    assert!(files.iter().all(is_below), "{files:?}");
}

/// The same sources give the same bytes, so that who builds them again can compare.
#[test]
fn packages_are_reproducible() {
    let programs = stand_ins();
    for format in [Format::Deb, Format::Rpm, Format::Tar] {
        let bytes = || {
            let out = tempfile::tempdir().unwrap();
            let packages = made("packages_are_reproducible", format, programs.path(), out.path())?;
            Some(packages.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>())
        };
        let (Some(one), Some(other)) = (bytes(), bytes()) else { continue };
        assert!(one == other, "{format:?} differs when it is made again");
    }
}

/// The programs of this build, if there are any.
fn built() -> Option<PathBuf> {
    let target = std::env::current_exe().ok()?;
    let profile = target.parent()?.parent()?.to_owned();
    let is_there = ["orb8", "orb8-agent"].iter().all(|name| profile.join(name).is_file());
    is_there.then_some(profile)
}

/// What is installed starts, and says its version.
#[test]
fn installed_programs_start() {
    let test = "installed_programs_start";
    let Some(built) = built() else {
        return skip(test, "the programs are not built; `cargo build` does");
    };
    let programs = tempfile::tempdir().unwrap();
    for name in ["orb8", "orb8-agent"] {
        let copy = programs.path().join(name);
        fs::copy(built.join(name), &copy).unwrap();
        // Debug information would only take time to pack.
        let _ = Command::new("strip").arg(&copy).status();
    }
    let out = tempfile::tempdir().unwrap();
    let tarball = make(programs.path(), out.path(), &[Format::Tar]).unwrap().remove(0);
    let installed = tempfile::tempdir().unwrap();
    let below = installed.path().to_str().unwrap();
    run("tar", &["--extract", "--file", tarball.to_str().unwrap(), "--directory", below]);
    for name in ["orb8", "orb8-agent"] {
        let program = installed.path().join("bin").join(name);
        let version = run(program.to_str().unwrap(), &["--version"]);
        assert_eq!(version, format!("{name} {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn programs_of_two_architectures_are_refused() {
    let programs = stand_ins();
    let path = programs.path().join("orb8");
    let mut bytes = fs::read(&path).unwrap();
    // `e_machine`, for the other architecture.
    let other: u16 = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    bytes[18..20].copy_from_slice(&other.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = make(programs.path(), programs.path(), &[Format::Tar]).unwrap_err();
    assert!(error.to_string().contains("two architectures"), "{error:#}");
}

fn unit() -> String {
    fs::read_to_string(root().join("packaging/orb8-agent.service")).unwrap()
}

fn lines<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let prefix = format!("{key}=");
    unit.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
}

#[test]
fn the_unit_starts_what_the_package_holds_and_no_more_than_it_needs() {
    let unit = unit();
    assert_eq!(lines(&unit, "ExecStart"), ["/usr/bin/orb8-agent"]);
    assert_eq!(lines(&unit, "NoNewPrivileges"), ["yes"]);
    assert_eq!(lines(&unit, "ProtectSystem"), ["strict"]);
    // Where --socket is by default.
    assert_eq!(lines(&unit, "RuntimeDirectory"), ["orb8"]);
    // SYS_RESOURCE would raise the limit, which the unit does.
    assert_eq!(lines(&unit, "CapabilityBoundingSet"), ["CAP_BPF CAP_PERFMON CAP_NET_ADMIN"]);
    assert_eq!(lines(&unit, "LimitMEMLOCK"), ["infinity"]);
    let allowed = lines(&unit, "SystemCallFilter")[0];
    for call in ["bpf", "perf_event_open", "open_by_handle_at"] {
        assert!(allowed.split(' ').any(|word| word == call), "{call} is in no set of systemd's");
    }
}

#[test]
fn systemd_takes_the_unit() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("orb8-agent.service");
    // The program is not installed here.
    fs::write(&path, unit().replace("/usr/bin/orb8-agent", "/usr/bin/true")).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let Ok(verified) = verified else {
        return skip("systemd_takes_the_unit", "systemd-analyze is not installed");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    // Of other units, and of buses that a container lacks, it complains as well.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("orb8-agent")).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}
