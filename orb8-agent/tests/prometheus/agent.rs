//! The agent's own program, as Prometheus meets it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::kernel::support::cgroup::Cgroup;

/// A running agent. It is told to stop when it is dropped.
pub(super) struct Agent(Child);

impl Agent {
    /// Starts it with its metrics at a port of this namespace's loopback.
    pub(super) fn start(
        port: u16,
        cgroup: &Cgroup,
        kubeconfig: &Path,
        node: &str,
        more: &[&str],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orb8-agent"));
        command.env_clear().stdin(Stdio::null());
        command.arg(format!("--admin-listen=127.0.0.1:{port}"));
        command.arg(format!("--cgroup-root={}", cgroup.path().display()));
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.arg(format!("--node-name={node}"));
        command.args([
            "--listen=off",
            "--socket=off",
            "--kubernetes=kubeconfig",
            "--attach=cgroup",
        ]);
        // Of what fails on purpose it would tell each time.
        command.args(["--drain-interval=100ms", "--dns-timeout=1s", "--log=error"]);
        command.args(more);
        Self(command.spawn().expect("the agent runs"))
    }

    /// Panics when it ended by itself.
    pub(super) fn expect_running(&mut self) {
        let ended = self.0.try_wait().expect("the agent's state");
        assert!(ended.is_none(), "the agent ended: {ended:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}
