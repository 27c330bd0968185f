//! Namespaces of the kernel: what is mounted in them, and which ports are taken, is nobody else's business.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::SOON;

/// What a script is the last word of, when it did what it should.
const READY: &str = "namespaces-ready";

/// They go with this value, if nobody is left in them.
pub(crate) struct Namespaces {
    kinds: Vec<String>,
    holder: Child,
}

/// Without it they cannot be made; what is not tried is said.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

impl Namespaces {
    /// New ones of these kinds, `--mount` among them, in which the shell has run `script` in `folder`.
    pub(crate) fn unshare(kinds: &[&str], folder: &Path, script: &str) -> Self {
        let script = format!("set -e; {script}; : > {READY}; exec sleep infinity");
        let holder = Command::new("unshare")
            .args(kinds)
            .args(["--propagation", "private", "--"])
            .args(["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", &script])
            .current_dir(folder)
            .stdin(Stdio::null())
            .spawn();
        let mut made = Self {
            kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
            holder: holder.expect("unshare (util-linux)"),
        };
        let began = Instant::now();
        while !folder.join(READY).exists() {
            let ended = made.holder.try_wait().unwrap();
            assert!(ended.is_none(), "it cannot be done here: {script}");
            assert!(began.elapsed() < SOON, "it does not end: {script}");
            std::thread::sleep(Duration::from_millis(20));
        }
        made
    }

    /// The same program, in these namespaces.
    pub(crate) fn inside(&self, plain: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--target={}", self.holder.id()))
            .args(&self.kinds)
            .arg("--")
            .arg(plain.get_program())
            .args(plain.get_args())
            .stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
