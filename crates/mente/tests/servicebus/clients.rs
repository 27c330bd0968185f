//! Each client's program, against a server of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::certificates::{Certificates, text};
use crate::entities;
use crate::judge::{self, Case};
use crate::server::Server;

/// Any key will do where none was set up; the flag makes the clients go without TLS, at the endpoint's own port.
pub(crate) fn connection(address: &str) -> String {
    format!(
        "Endpoint=sb://{address};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=any;UseDevelopmentEmulator=true;"
    )
}

pub(crate) fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servicebus")
}

/// Runs a client's program, `words` before each of its own, on a server that has what its cases need.
async fn prove(program: &[&str], run: &str) {
    let command = |words: &[&str]| {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(words);
        command
    };
    let cases: Vec<Case> = judge::listed(&mut command(&["list"]));
    assert!(!cases.is_empty(), "{program:?} has no cases");

    let certificates = Certificates::new();
    let (cert, key) = certificates.sign(&["localhost", "127.0.0.1"]);
    let doors = ["--amqp", "127.0.0.1:0", "--servicebus-admin", "127.0.0.1:0"];
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let server = Server::start_with(&[&doors[..], &tls[..]].concat());
    let (amqp, administration) = (port(&server, "amqp"), port(&server, "servicebus-admin"));
    entities::make(&administration, &cases).await;

    let authority = certificates.authority();
    let mut command = command(&[run]);
    command.env("MENTE_SERVICEBUS", connection(&amqp));
    // The administration's clients speak TLS whatever they are told, and verify it for this name.
    let administration = administration.replace("127.0.0.1", "localhost");
    command.env("MENTE_SERVICEBUS_ADMIN", connection(&administration));
    command.env("MENTE_SERVICEBUS_CA", &authority);
    for trust in ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        command.env(trust, &authority);
    }
    judge::run(&mut command, &cases);
}

/// Where the server's door of that name is.
pub(crate) fn port(server: &Server, door: &str) -> String {
    let ports = std::fs::read_to_string(server.data().with_file_name("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    let address = ports[door].as_str();
    address
        .unwrap_or_else(|| panic!("no door {door} in {ports}"))
        .to_owned()
}

#[tokio::test]
async fn the_blocking_client_of_python_works() {
    prove(&python(), "blocking").await;
}

#[tokio::test]
async fn the_asyncio_client_of_python_works() {
    prove(&python(), "asyncio").await;
}

/// The Python with the packages of `tests/python/requirements.txt`, and the program.
pub(crate) fn python() -> [&'static str; 2] {
    static PYTHON: OnceLock<[String; 2]> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            let python = std::env::var_os("MENTE_TEST_PYTHON")
                .map_or_else(|| tests().join("../../.venv/bin/python"), PathBuf::from);
            let program = tests().join("python/run.py");
            [python, program].map(|path| path.display().to_string())
        })
        .each_ref()
        .map(String::as_str)
}

/// A client of no service's: AMQP as its standard has it.
#[tokio::test]
async fn qpid_proton_works() {
    let program = tests().join("proton/run.py").display().to_string();
    prove(&[python()[0], &program], "run").await;
}

#[tokio::test]
async fn the_client_of_javascript_works() {
    let program = tests().join("js/run.mjs").display().to_string();
    prove(&["node", &program], "run").await;
}

#[tokio::test]
async fn the_client_of_go_works() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("servicebus-go");
    let mut build = Command::new("go");
    build.current_dir(tests().join("go"));
    judge::works(build.args(["build", "-o"]).arg(&program).arg("."));
    prove(&[&program.display().to_string()], "run").await;
}

#[tokio::test]
async fn the_client_of_java_works() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (list, classes) = (
        place.join("servicebus.classpath"),
        place.join("servicebus-java"),
    );
    let mut fetch = Command::new("mvn");
    fetch.args(["-B", "-q", "dependency:build-classpath", "-f"]);
    fetch.arg(tests().join("java/pom.xml"));
    judge::works(fetch.arg(format!("-Dmdep.outputFile={}", list.display())));
    let jars = std::fs::read_to_string(&list).unwrap();
    let mut compile = Command::new("javac");
    compile.args(["-cp", &jars, "-d"]).arg(&classes);
    let sources = std::fs::read_dir(tests().join("java")).unwrap();
    let sources = sources.map(|source| source.unwrap().path());
    let java = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "java");
    judge::works(compile.args(sources.filter(java)));
    let classes = format!("{}:{jars}", classes.display());
    prove(
        &["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "Cases"],
        "run",
    )
    .await;
}
