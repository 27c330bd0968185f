//! A real PostgreSQL of one test, on a port of its own, and its own client beside it.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// For whatever must happen soon; long, since machines are busy.
const SOON: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Postgres {
    programs: PathBuf,
    directory: TempDir,
    pub(crate) port: u16,
    process: Child,
}

/// PostgreSQL's own client of one server.
#[derive(Clone)]
pub(crate) struct Psql {
    programs: PathBuf,
    directory: PathBuf,
    url: String,
}

impl Psql {
    /// Statements with semicolons between them, one transaction unless they say otherwise.
    pub(crate) fn run(&self, sql: &str) -> Output {
        run(&self.programs, "psql", &self.directory)
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(&self.url)
            .output()
            .unwrap()
    }
}

impl Postgres {
    /// An empty one that answers.
    pub(crate) fn start() -> Self {
        Self::start_as(None)
    }

    /// One that speaks TLS too, with this certificate and key.
    #[allow(dead_code, reason = "not every target has such a test")]
    pub(crate) fn start_over_tls(certificate: &Path, key: &Path) -> Self {
        Self::start_as(Some((certificate, key)))
    }

    fn start_as(tls: Option<(&Path, &Path)>) -> Self {
        let programs = programs();
        let directory = tempfile::tempdir().unwrap();
        own(directory.path());
        let made = run(&programs, "initdb", directory.path())
            .arg("-D")
            .arg(directory.path().join("data"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .output()
            .unwrap();
        succeeded(&made, "initdb");
        if let Some((certificate, key)) = tls {
            let data = directory.path().join("data");
            for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
                let to = data.join(name);
                std::fs::copy(from, &to).unwrap();
                own(&to);
                std::fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
            }
            std::fs::write(data.join("postgresql.auto.conf"), "ssl = on\n").unwrap();
            own(&data.join("postgresql.auto.conf"));
        }
        let port = free_port();
        let process = spawn(&programs, directory.path(), port);
        let server = Self {
            programs,
            directory,
            port,
            process,
        };
        server.wait_until_it_answers();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it without warning, its children included: the postmaster's death is theirs.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// On the same data and port, after a kill.
    pub(crate) fn start_again(&mut self) {
        let began = Instant::now();
        loop {
            self.process = spawn(&self.programs, self.directory.path(), self.port);
            // Children of the one before that have not noticed yet keep it from starting.
            std::thread::sleep(Duration::from_millis(300));
            if self.process.try_wait().unwrap().is_none() {
                break;
            }
            assert!(began.elapsed() < SOON, "PostgreSQL does not start again");
        }
        self.wait_until_it_answers();
    }

    /// What the statement answers, a line a row, columns between `|`.
    pub(crate) fn ask(&self, sql: &str) -> String {
        let answer = self.psql(sql);
        succeeded(&answer, sql);
        String::from_utf8(answer.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    pub(crate) fn psql(&self, sql: &str) -> Output {
        self.client().run(sql)
    }

    pub(crate) fn client(&self) -> Psql {
        Psql {
            programs: self.programs.clone(),
            directory: self.directory.path().to_owned(),
            url: self.url(),
        }
    }

    fn wait_until_it_answers(&self) {
        let began = Instant::now();
        while !self.psql("SELECT 1").status.success() {
            assert!(began.elapsed() < SOON, "PostgreSQL does not answer");
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(programs: &Path, directory: &Path, port: u16) -> Child {
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=100",
        "max_prepared_transactions=2",
    ];
    let out = std::fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("out"))
        .unwrap();
    run(programs, "postgres", directory)
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string()])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap()
}

/// A program of PostgreSQL's, which refuses to be root.
fn run(programs: &Path, program: &str, directory: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            // A test that is killed leaves none behind.
            .args(["--pdeathsig", "KILL"])
            .arg(programs.join(program));
        command
    } else {
        Command::new(programs.join(program))
    };
    command.current_dir(directory);
    command
}

fn own(directory: &Path) {
    if is_root() {
        let owned = Command::new("chown")
            .arg("postgres")
            .arg(directory)
            .status();
        assert!(owned.unwrap().success());
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// Debian's newest, or what is on the path.
fn programs() -> PathBuf {
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    };
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let versions = versions.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let newest = versions
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(number);
    if let Some(newest) = newest {
        return newest.join("bin");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    found.expect(
        "PostgreSQL is missing (Debian: postgresql): cargo xtask setup installs or names it",
    )
}

fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

fn succeeded(output: &Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
}
