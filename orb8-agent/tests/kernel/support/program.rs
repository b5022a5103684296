//! Other people's programs that run beside a test.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{cgroup::Cgroup, netns::Netns, skip};

/// A running program. It is killed when it is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it in a namespace and, from its first instruction on, in a cgroup.
    pub(crate) fn start(
        namespace: &Netns,
        cgroup: Option<&Cgroup>,
        program: &str,
        arguments: &[String],
    ) -> Self {
        let mut command = Command::new("sh");
        let join = cgroup.map_or_else(String::new, |cgroup| {
            format!("echo $$ > {}/cgroup.procs && ", cgroup.path().display())
        });
        command.args(["-c", &format!("{join}exec \"$0\" \"$@\""), program]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(namespace.run(|| command.spawn()).expect("a shell"))
    }

    /// Panics when it ended by itself.
    pub(crate) fn expect_running(&mut self) {
        let ended = self.0.try_wait().expect("the program's state");
        assert!(ended.is_none(), "the program ended: {ended:?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether every program of a test is there; says so as skipped where one is not.
pub(crate) fn has_programs(names: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    let is_missing = |name: &&&str| !folders.iter().any(|folder| folder.join(**name).is_file());
    match names.iter().find(is_missing) {
        Some(name) => {
            skip(name, "it is not installed");
            false
        }
        None => true,
    }
}
