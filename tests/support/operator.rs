//! The operator as a process of the test's own: one that can be killed, and that sees one namespace only.

#![allow(dead_code, reason = "each test program uses another part")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::cluster::Namespace;

/// `belay controller` for one namespace, by the ServiceAccount of the deployed one; ended when it is dropped.
pub struct Operator {
    child: Child,
    log: PathBuf,
}

impl Operator {
    /// Starts it; it is ready when it does what is asked of it.
    pub fn start(namespace: &Namespace) -> Self {
        Self::start_with(namespace, None)
    }

    /// The same, armed with a failpoint.
    pub fn start_with(namespace: &Namespace, failpoint: Option<&str>) -> Self {
        let failpoint = failpoint.map(|failpoint| ("BELAY_FAILPOINT", failpoint));
        Self::start_as(namespace, &failpoint.into_iter().chain([("BELAY_LOG", "debug")]).collect::<Vec<_>>())
    }

    /// The same, with this environment: also what the chart sets by it.
    pub fn start_as(namespace: &Namespace, environment: &[(&str, &str)]) -> Self {
        let log = std::env::temp_dir().join(format!(
            "belay-operator-{}-{}.log",
            namespace.name,
            uuid::Uuid::new_v4().simple()
        ));
        let file = File::create(&log).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
        if !environment.iter().any(|(name, _)| *name == "KUBECONFIG") {
            command.env("KUBECONFIG", namespace.cluster.operators_kubeconfig());
        }
        command
            .args(["controller", "--namespace", &namespace.name, "--probes", "127.0.0.1:0", "--drain-timeout", "10s"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        Self { child: command.spawn().expect("the operator starts"), log }
    }

    /// One of several, of which one leads; by this kubeconfig, or by the operator's own.
    pub fn replica(namespace: &Namespace, kubeconfig: Option<&str>) -> Self {
        namespace.let_operators_elect();
        let mut environment = vec![
            ("BELAY_LOG", "debug"),
            ("BELAY_LEADER_ELECT", "true"),
            ("BELAY_LEASE_NAMESPACE", namespace.name.as_str()),
        ];
        environment.extend(kubeconfig.map(|kubeconfig| ("KUBECONFIG", kubeconfig)));
        Self::start_as(namespace, &environment)
    }

    /// Where it serves probes and metrics, once it does.
    pub fn address(&self) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("serving probes and metrics"))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["address"].as_str().map(str::to_owned)
    }

    /// Whether it has said this.
    pub fn says(&self, words: &str) -> bool {
        self.log().contains(words)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: it tidies nothing up.
    pub fn kill(mut self) {
        self.child.kill().expect("the operator was running");
        self.child.wait().expect("the operator ended");
    }

    /// SIGTERM, as a Pod's end begins.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        assert!(sent.success());
    }

    /// Whether it has ended, and whether by itself with success.
    pub fn ended(&mut self) -> Option<bool> {
        self.child.try_wait().expect("the operator's state").map(|status| status.success())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("the operator's log, the last lines first:\n{}", tail.join("\n"));
        }
        let _ = std::fs::remove_file(&self.log);
    }
}
