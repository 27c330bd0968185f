//! Celery and kombu, unmodified. Their transport knows of no emulator: it speaks TLS at port 5671, and HTTPS at 443 or
//! where its URL says, and believes the authorities of Python's package certifi. So it is shown what a user would
//! set up, in namespaces where these ports and files are the test's own.

use std::process::{Child, Command};

use crate::certificates::{Certificates, text};
use crate::clients::{python, tests};
use crate::judge;
use crate::namespaces::{Namespaces, is_root};
use crate::server::{command, wait_for_ports};

/// As Azure makes them, with what is odd in a URL.
const KEY: &str = "a2V5/a2V5a2V5a2V5+2V5a2V5a2V5a2V5a2V5a2V5a2V=";
/// Where kombu looks for the namespace `mente`.
const NAME: &str = "mente.servicebus.windows.net";
/// Files of the machine, with the test's in their places.
const SCRIPT: &str = r#"ip link set lo up; mount --bind hosts /etc/hosts; mount --bind ca.pem "$("$PYTHON" -m certifi)""#;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn celery_and_kombu_work() {
    if !is_root() {
        eprintln!("NOT TRIED: only root may have ports 443 and 5671 of its own");
        return;
    }
    let certificates = Certificates::new();
    let (cert, key) = certificates.sign(&[NAME, "ports.test"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("hosts"),
        format!("127.0.0.1 {NAME}\n127.0.0.2 ports.test\n"),
    )
    .unwrap();
    std::fs::copy(certificates.authority(), at("ca.pem")).unwrap();
    std::fs::write(at("keys"), format!("Root={KEY}\n")).unwrap();
    let [python, _] = python();
    let script = SCRIPT.replace("$PYTHON", python);
    let namespaces = Namespaces::unshare(&["--mount", "--net"], folder.path(), &script);

    let start = |name: &str, amqp: &str, administration: &str| {
        let mut server = command("server");
        let (place, ports) = (at(name), at(&format!("{name}.ports")));
        let doors = ["--http", "127.0.0.1:0", "--amqp", amqp];
        server
            .args(doors)
            .args(["--servicebus-admin", administration]);
        server.args(["--tls-cert", text(&cert), "--tls-key", text(&key)]);
        server.arg("--keys-file").arg(at("keys"));
        server.arg("--data-dir").arg(place);
        server.arg("--ports-file").arg(&ports);
        let mut process = namespaces.inside(&server).spawn().unwrap();
        wait_for_ports(&mut process, &ports);
        Server(process)
    };
    let _usual = start("usual", "127.0.0.1:5671", "127.0.0.1:443");
    let _other = start("other", "127.0.0.2:5671", "127.0.0.2:5300");

    let program = tests().join("celery/run.py");
    let run = |word: &str| {
        let mut command = Command::new(python);
        command.arg(&program).arg(word);
        command.env("REQUESTS_CA_BUNDLE", certificates.authority());
        command.env("MENTE_KOMBU", url("mente"));
        command.env("MENTE_KOMBU_PORTS", url("ports.test:5300/any.net"));
        namespaces.inside(&command)
    };
    let cases = judge::listed(&mut run("list"));
    judge::run(&mut run("run"), &cases);
}

fn url(namespace: &str) -> String {
    format!("azureservicebus://Root:{KEY}@{namespace}")
}
