//! `mente doctor`: each check says good where it is good, and bad where it is made bad.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::server::{Server, command};

fn doctor(data: &Path, flags: &[&str]) -> Command {
    let mut doctor = command("doctor");
    doctor
        .args(["-o", "json", "--data-dir"])
        .arg(data)
        .args(flags);
    if !flags.contains(&"--http") {
        doctor.args(["--http", "127.0.0.1:0"]);
    }
    doctor
}

/// The exit code, and what was found.
fn look(mut doctor: Command) -> (Option<i32>, Value) {
    let output = doctor.output().unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), found)
}

/// The worst of a check.
fn verdict(found: &Value, check: &str) -> String {
    let findings = found["findings"].as_array().unwrap().iter();
    let mut verdicts: Vec<_> = findings
        .filter(|finding| finding["check"] == check)
        .map(|finding| finding["verdict"].as_str().unwrap().to_owned())
        .collect();
    verdicts.sort_by_key(|verdict| ["bad", "warn", "ok"].iter().position(|v| v == verdict));
    assert!(!verdicts.is_empty(), "no {check} in {found}");
    verdicts.remove(0)
}

#[tokio::test]
async fn a_healthy_place_is_ok_with_and_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, found) = look(doctor(&data, &["--disk-reserve", "1M"]));
    assert_eq!(code, Some(0), "{found}");
    for check in ["room", "port", "data", "clock", "file"] {
        assert_eq!(verdict(&found, check), "ok", "{found}");
    }
    assert!(!data.exists(), "nothing is made");

    let server = Server::start();
    server.publish("t", "1", "1").await;
    let own = ["--http", &server.address, "--disk-reserve", "1M"];
    let (code, found) = look(doctor(&server.data(), &own));
    assert_eq!(code, Some(0), "{found}");
    for check in ["port", "lock", "modes", "format", "clock"] {
        assert_eq!(verdict(&found, check), "ok", "{check}: {found}");
    }
    // The same port for another directory is taken, and by whom is said.
    let (code, found) = look(doctor(&data, &["--http", &server.address]));
    assert_eq!((code, verdict(&found, "port").as_str()), (Some(1), "bad"));
    assert!(found.to_string().contains("mente (process"), "{found}");
}

#[test]
fn what_is_bad_is_called_bad() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let check = |flags: &[&str], check: &str| {
        let (code, found) = look(doctor(&data, flags));
        assert_eq!(code, Some(1), "{found}");
        assert_eq!(verdict(&found, check), "bad", "{check}: {found}");
        assert_eq!(found["verdict"], "bad");
    };
    check(&["--disk-reserve", "1000000T"], "room");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    check(&["--http", &busy.local_addr().unwrap().to_string()], "port");
    let keys = folder.path().join("keys");
    fs::write(&keys, "a=b").unwrap();
    check(&["--keys-file", keys.to_str().unwrap()], "secret");

    fs::create_dir(&data).unwrap();
    let file = data.join("00000001.wal");
    fs::write(&file, "not what it was").unwrap();
    check(&[], "format");
    let later = SystemTime::now() + Duration::from_secs(3_600);
    File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .set_modified(later)
        .unwrap();
    check(&[], "clock");
}

#[test]
fn memory_is_no_disk() {
    let shm = Path::new("/dev/shm");
    assert!(shm.exists(), "Linux has a tmpfs there");
    let folder = tempfile::tempdir_in(shm).unwrap();
    let (code, found) = look(doctor(folder.path(), &[]));
    assert_eq!(
        (code, verdict(&found, "disk").as_str()),
        (Some(1), "bad"),
        "{found}"
    );
    assert_eq!(
        verdict(&found, "sync"),
        "warn",
        "no disk is that fast: {found}"
    );
}

#[test]
fn low_limits_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    let plain = doctor(folder.path(), &[]);
    for (limit, check) in [
        ("-n 200", "files"),
        ("-v 400000", "memory"),
        ("-f 4096", "file"),
    ] {
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!("ulimit {limit} && exec \"$0\" \"$@\""));
        limited.arg(plain.get_program()).args(plain.get_args());
        let (code, found) = look(limited);
        assert_eq!(
            (code, verdict(&found, check).as_str()),
            (Some(1), "bad"),
            "{found}"
        );
    }
}

/// For people: a line each, the bad ones with what to do.
#[test]
fn a_table_is_read_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut doctor = command("doctor");
    doctor.args([
        "--http",
        "127.0.0.1:0",
        "--disk-reserve",
        "1000000T",
        "--data-dir",
    ]);
    let output = doctor.arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    let room = shown.lines().find(|line| line.starts_with("BAD   room"));
    assert!(
        room.is_some_and(|line| line.contains("give it more room")),
        "{shown}"
    );
    assert!(
        shown.lines().any(|line| line.starts_with("ok    port")),
        "{shown}"
    );
}
