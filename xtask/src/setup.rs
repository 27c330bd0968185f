//! Sets up what the tests need beyond Rust. As root on Debian it installs what is missing;
//! elsewhere it names it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, execute, root};

/// Program, its Debian packages, and what needs it.
const PROGRAMS: [(&str, &str, &str); 12] = [
    (
        "java",
        "openjdk-17-jdk-headless",
        "the Kafka engine's tests and Service Bus's client",
    ),
    (
        "mvn",
        "maven",
        "the Kafka engine's tests and Service Bus's client",
    ),
    ("go", "golang-go", "the test of Go's Service Bus client"),
    ("node", "nodejs", "the JavaScript clients' tests"),
    ("npm", "npm", "the JavaScript clients' tests"),
    ("chromium", "chromium", "the shop page's test"),
    ("strace", "strace", "the server's test of failing disks"),
    ("xfs_io", "xfsprogs", "the power cuts of mente chaos"),
    ("faketime", "faketime", "the clock steps of mente chaos"),
    ("ip", "iproute2", "the nodes that mente chaos cuts off"),
    ("m4", "m4", "the journals of the ledger's test"),
    (
        "python3-config",
        "python3-dev",
        "the test of Qpid Proton, which pip builds",
    ),
];

/// Debian has its programs beside the path, by version.
const POSTGRESQL: (&str, &str, &str) = (
    "initdb",
    "postgresql",
    "the tests of projections in PostgreSQL",
);

/// What benchmarks are built with and measure beside, by their folders: Debian's packages.
const BENCHES: [(&str, &[&str]); 2] = [
    ("bench/eventstore", &["postgresql", "strace"]),
    (
        "bench/amqp",
        &[
            "gcc",
            "libc6-dev",
            "libqpid-proton11-dev",
            "openjdk-17-jre-headless",
            "libaio1",
            "rabbitmq-server",
            "strace",
        ],
    ),
];

/// Installs or names everything; `Err` lists what is still missing.
pub(crate) fn run() -> Outcome {
    let mut missing = Vec::new();
    let absent: Vec<_> = PROGRAMS
        .iter()
        .chain([&POSTGRESQL])
        .filter(|(program, ..)| !is_there(program))
        .collect();
    if !absent.is_empty() && can_install() {
        let packages = absent.iter().map(|(_, package, _)| *package);
        // A failure shows below: the program is still absent.
        let _ = run_quietly("apt-get", ["update"]);
        let install = ["install", "--yes", "--no-install-recommends"];
        let _ = run_quietly("apt-get", install.into_iter().chain(packages));
    }
    for (program, package, purpose) in absent {
        if !is_there(program) {
            missing.push(format!("{program} (Debian: {package}) for {purpose}"));
        }
    }
    if let Err(error) = python() {
        missing.push(error);
    }
    if let Err(error) = journals() {
        missing.push(error);
    }
    for folder in ["tests/node", "tests/servicebus/js"] {
        if let Err(error) = node(&root().join(folder)) {
            missing.push(error);
        }
    }
    if let Err(error) = go() {
        missing.push(error);
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "missing, so the tests that need it will fail:\n  {}",
        missing.join("\n  ")
    ))
}

/// The virtual environment `.venv` with the clients that the tests drive.
fn python() -> Outcome {
    venv(&root().join("tests/python"), &root().join(".venv"))
}

/// What a benchmark in Python needs: its packages in a virtual environment of its own, whose Python is told, and
/// what it measures beside, of Debian's. What is missing in spite of that, it names itself.
pub(crate) fn bench(folder: &str) -> Result<PathBuf, String> {
    let packages = BENCHES.iter().find(|(known, _)| *known == folder);
    let packages = packages.map_or(&[][..], |(_, packages)| packages);
    let query = ["--show", "--showformat="].into_iter();
    let is_installed = run_quietly("dpkg-query", query.chain(packages.iter().copied())).is_ok();
    if !is_installed && can_install() {
        let _ = run_quietly("apt-get", ["update"]);
        let install = ["install", "--yes", "--no-install-recommends"].into_iter();
        let _ = run_quietly("apt-get", install.chain(packages.iter().copied()));
    }
    if !root().join(folder).join("requirements.txt").exists() {
        return Ok("python3".into());
    }
    let place = root().join(".venv-bench");
    venv(&root().join(folder), &place)?;
    Ok(place.join("bin/python"))
}

/// The Python of a suite of somebody else's, with the packages that it needs.
pub(crate) fn suite(folder: &str) -> Result<PathBuf, String> {
    let place = root().join(".venv-live");
    venv(&root().join(folder), &place)?;
    Ok(place.join("bin/python"))
}

/// A virtual environment with the packages that `folder` requires.
fn venv(folder: &Path, venv: &Path) -> Outcome {
    let requirements = folder.join("requirements.txt");
    let stamp = venv.join("requirements.txt");
    if !requirements.exists() || same(&requirements, &stamp) {
        return Ok(());
    }
    let create = || execute(Command::new("python3").args(["-m", "venv"]).arg(venv));
    if create().is_err() && can_install() {
        let _ = run_quietly("apt-get", ["install", "--yes", "python3-venv"]);
        create()?;
    }
    let python = venv.join("bin/python");
    execute(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements),
    )
    .map_err(|error| format!("Python packages of {}: {error}", requirements.display()))?;
    copy(&requirements, &stamp)
}

/// Beancount's example journals, out of its source package, whose checksum is pinned. pip asks a source package
/// for its metadata, and this one makes its parser for that: hence m4.
fn journals() -> Outcome {
    let pinned = root().join("tests/python/examples.txt");
    let (venv, folder) = (root().join(".venv"), root().join(".venv/examples"));
    let stamp = folder.join("examples.txt");
    if !pinned.exists() || same(&pinned, &stamp) {
        return Ok(());
    }
    let _ = std::fs::remove_dir_all(&folder);
    let source = ["--no-deps", "--no-binary", "beancount", "--require-hashes"];
    execute(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "download", "--quiet"])
            .arg("--disable-pip-version-check")
            .args(source)
            .arg("--dest")
            .arg(&folder)
            .arg("-r")
            .arg(&pinned),
    )
    .map_err(|error| format!("journals of {}: {error}", pinned.display()))?;
    let unpack = "import pathlib, sys, tarfile
folder = pathlib.Path(sys.argv[1])
for archive in folder.glob('*.tar.gz'):
    with tarfile.open(archive) as source:
        wanted = [m for m in source if m.isfile() and m.name.endswith('.beancount')]
        source.extractall(folder, wanted)";
    execute(
        Command::new(venv.join("bin/python"))
            .args(["-c", unpack])
            .arg(&folder),
    )?;
    copy(&pinned, &stamp)
}

/// The packages of a folder with a lock file, if npm is there.
fn node(folder: &Path) -> Outcome {
    let (lock, stamp) = (
        folder.join("package-lock.json"),
        folder.join("node_modules/.installed"),
    );
    if !lock.exists() || same(&lock, &stamp) {
        return Ok(());
    }
    execute(
        Command::new("npm")
            .args(["ci", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder),
    )?;
    copy(&lock, &stamp)
}

/// The modules that `tests/servicebus/go` is built with, by the checksums of its `go.sum`.
fn go() -> Outcome {
    let folder = root().join("tests/servicebus/go");
    execute(
        Command::new("go")
            .arg("-C")
            .arg(folder)
            .args(["mod", "download"]),
    )
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((std::fs::read(one), std::fs::read(other)), (Ok(a), Ok(b)) if a == b)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|e| format!("cannot write {}: {e}", to.display()))
}

fn is_there(program: &str) -> bool {
    let of_debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        versions
            .flatten()
            .any(|version| version.path().join("bin/initdb").exists())
    };
    works(program) || program == POSTGRESQL.0 && of_debian()
}

fn works(program: &str) -> bool {
    let run = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok()
}

fn can_install() -> bool {
    let id = Command::new("id").arg("-u").output();
    let root = id.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    root && works("apt-get")
}

fn run_quietly<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Outcome {
    execute(
        Command::new(program)
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()),
    )
}
