//! Long proofs: each runs in release and leaves its report in `docs/proof`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, execute, root, setup};

/// A program that proves something in a while.
struct Proof {
    name: &'static str,
    program: Program,
    words: &'static [&'static str],
    /// Unless others are given.
    flags: &'static [&'static str],
    /// What it shows.
    purpose: &'static str,
}

enum Program {
    /// The binary of the package of that name.
    Binary(&'static str),
    /// The same with bugs that can be planted in it.
    Planted(&'static str),
    /// A test of a package that is a program of its own.
    Test {
        package: &'static str,
        name: &'static str,
    },
    /// A program in Python in that folder, which measures the binary of release.
    Python(&'static str),
    /// Somebody else's tests, run by a program in Python in that folder, which writes that page beside.
    Suite {
        folder: &'static str,
        page: &'static str,
    },
}

const PROOFS: [Proof; 15] = [
    Proof {
        name: "chaos",
        program: Program::Binary("mente"),
        words: &["chaos"],
        flags: &[
            "--power", "--kills", "500", "--cuts", "500", "--pauses", "20", "--steps", "20",
        ],
        purpose: "Killed, stopped for up to a minute, its clock put an hour forward and back, and cut off from power on ext4 and XFS, while clients write down what they are told: what was acknowledged is still there, locks and delays are kept.",
    },
    Proof {
        name: "planted",
        program: Program::Planted("mente"),
        words: &["chaos"],
        flags: &["--planted"],
        purpose: "Servers that have a bug on purpose, killed under load: the laws over what clients of their queues were told over AMQP find each.",
    },
    Proof {
        name: "cluster",
        program: Program::Binary("mente"),
        words: &["chaos"],
        flags: &["--kafka", "scripts/kafka", "--rounds", "50"],
        purpose: "Three nodes on three brokers of Kafka: nodes killed, stopped for up to a minute, cut off from all others, restarted one after the other, brokers killed, while clients write down what they are told: what was acknowledged is still there, every law of logs, queues, streams and views holds.",
    },
    Proof {
        name: "kill",
        program: Program::Binary("mente"),
        words: &["demo", "shop"],
        flags: &["--orders", "20000", "--kills", "50"],
        purpose: "The whole shop, its server killed fifty times: nothing lost, nothing invented, no offset told twice.",
    },
    Proof {
        name: "git",
        program: Program::Binary("mente"),
        words: &["demo", "git"],
        flags: &["."],
        purpose: "The first-parent history of a Git repository as a stream of events: its fold has Git's own root tree after every commit. Name a repository of many commits.",
    },
    Proof {
        name: "sim",
        program: Program::Binary("mente-sim"),
        words: &["all"],
        flags: &["--seeds", "1000000", "--thorough"],
        purpose: "Broker and log in simulated worlds that lose power, a million of them unless cut short, and a power cut before every storage operation of one run.",
    },
    Proof {
        name: "rot",
        program: Program::Binary("mente-sim"),
        words: &["rot"],
        flags: &["--injuries", "10000"],
        purpose: "Logs that were closed in order, hurt ten thousand times: bits that turn, sectors of zeros, files cut short or missing, blocks that lie elsewhere. What is served is what was written; what is not is named; what nobody names was needed by nobody, since everything reads as before.",
    },
    Proof {
        name: "faults",
        program: Program::Binary("mente-sim"),
        words: &["faults"],
        flags: &[],
        purpose: "Every call of the disk in one run of the log fails once, in every way that it can: the log stops, is busy for a while or tells its caller, as promised for that place; what was acknowledged is there after a kill and after a power cut.",
    },
    Proof {
        name: "fuzz",
        program: Program::Test {
            package: "mente-fuzz",
            name: "fuzz",
        },
        words: &[],
        flags: &["--seconds", "3600"],
        purpose: "Every decoder against damaged input for an hour: no panic, memory bounded by the input, what is decoded comes back.",
    },
    Proof {
        name: "soak",
        program: Program::Binary("mente"),
        words: &["soak"],
        flags: &["--for", "2h"],
        purpose: "Steady open load with retention deleting: nothing lost, order kept, and what grows.",
    },
    Proof {
        name: "servicebus-live",
        program: Program::Suite {
            folder: "tests/servicebus/live",
            page: "docs/compat/servicebus.md",
        },
        words: &[],
        flags: &[],
        purpose: "Microsoft's own tests of their Python client of Service Bus, blocking, asyncio and administration, against the server: each one that does not pass is in docs/compat/servicebus.md with its reason.",
    },
    Proof {
        name: "bench",
        program: Program::Binary("mente"),
        words: &["bench"],
        flags: &[],
        purpose: "What was measured, beside the disk's own sync and the client's own ceiling.",
    },
    Proof {
        name: "bench-cluster",
        program: Program::Binary("mente"),
        words: &["bench", "--kafka", "scripts/kafka"],
        flags: &[],
        purpose: "What Mente costs on a Kafka cluster of three brokers (records on all three, acknowledged by two), beside the same client straight on that cluster; 64 and 1,024 shards; how long a node that is killed is missed. Nodes, brokers and client share two cores.",
    },
    Proof {
        name: "bench-eventstore",
        program: Program::Python("bench/eventstore"),
        words: &[],
        flags: &["--grown", "10000000"],
        purpose: "The event store beside UmaDB and PostgreSQL: the same machine, disk, events and language of the client, all durable on acknowledge, in turn in one run. What is not comparable is said at the end.",
    },
    Proof {
        name: "bench-amqp",
        program: Program::Python("bench/amqp"),
        words: &[],
        flags: &[],
        purpose: "Queues beside ActiveMQ Artemis and RabbitMQ: the same AMQP 1.0 client, machine, disk and durable messages, in turn in one run, beside what the client can do at most. What is not comparable is said at the end.",
    },
];

/// `flags` take the place of the proof's own; the report says which ran.
pub(crate) fn run(name: &str, flags: &[&str]) -> Outcome {
    let Some(proof) = PROOFS.iter().find(|proof| proof.name == name) else {
        let known: Vec<_> = PROOFS.iter().map(|proof| proof.name).collect();
        return Err(format!(
            "no long proof {name:?}; there are {}",
            known.join(", ")
        ));
    };
    let asked = [&[name], flags].concat().join(" ");
    let flags = if flags.is_empty() { proof.flags } else { flags };
    let words = [proof.words, flags].concat();
    let purpose = proof.purpose;
    let mut command = Command::new("cargo");
    let program = match proof.program {
        Program::Binary(package) => {
            command.args(["run", "--release", "--quiet", "--package", package, "--"]);
            package.to_owned()
        }
        Program::Planted(package) => {
            command.args(["run", "--release", "--quiet", "--package", package]);
            command.args(["--features", "planted", "--"]);
            package.to_owned()
        }
        Program::Test { package, name } => {
            command.args(["test", "--release", "--quiet", "--package", package]);
            command.args(["--test", name, "--"]);
            format!("the test {name} of {package}:")
        }
        Program::Python(folder) => {
            let python = setup::bench(folder)?;
            let build = ["build", "--release", "--quiet", "--package", "mente"];
            execute(Command::new("cargo").args(build))?;
            command = Command::new(python);
            command.arg(format!("{folder}/run.py")).arg("--mente");
            command.arg(binaries().join("mente"));
            format!("{folder}/run.py")
        }
        Program::Suite { folder, page } => {
            let python = setup::suite(folder)?;
            let build = ["build", "--release", "--quiet", "--package", "mente"];
            execute(Command::new("cargo").args(build))?;
            command = Command::new(python);
            command.arg(format!("{folder}/run.py")).arg("--mente");
            command.arg(binaries().join("mente"));
            // A page of a part of it would not be true of the whole.
            if flags.is_empty() {
                command.args(["--report", page]);
            }
            format!("{folder}/run.py")
        }
    };
    command.args(&words);
    // What is about to run: the checkout may go on while it does.
    let commit = said("git", &["describe", "--always", "--dirty"]);
    eprintln!("xtask: {name}, this takes a while");
    let output = command
        .current_dir(root())
        .stderr(std::process::Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    let shown = String::from_utf8_lossy(&output.stdout);
    print!("{shown}");
    let report = format!(
        "# {name}\n\n{purpose}\n\n| | |\n|---|---|\n| command | `cargo xtask long {asked}` (`{}`) |\n| commit | {} |\n| date | {} |\n| machine | {} |\n| result | {} |\n\n```text\n{}\n```\n",
        format!("{program} {}", words.join(" ")).trim_end(),
        commit,
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        machine(),
        output.status,
        shown.trim_end()
    );
    let path = root().join("docs/proof").join(format!("{name}.md"));
    fs::write(&path, report)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{name} ended with {}", output.status))
    }
}

/// Where Cargo leaves what it builds in release.
fn binaries() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    root().join(target).join("release")
}

/// Processor, cores, memory, kernel and the file system of temporary files.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = said("df", &["--output=fstype", "/tmp"]);
    format!(
        "{}, {cores} cores, {} of memory, Linux {}, {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        said("uname", &["-r"]),
        system.lines().last().unwrap_or_default()
    )
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output();
    output.map_or("unknown".to_owned(), |o| {
        String::from_utf8_lossy(&o.stdout).trim().to_owned()
    })
}
