//! `mente demo shop --serve` as a visitor sees it, in the system's Chromium.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::server::{Server, command, wait};

/// The demo's process; it is asked to end, since it has a server of its own to stop.
struct Shop(Child);

#[test]
fn a_visitor_orders_breaks_things_and_finds_the_orders_again() {
    let root = workspace();
    let browser = browser(&root);
    let (mut shop, url) = Shop::open(&crate::engine::flags());
    let pictures = root.join("target");
    let output = Command::new("node")
        .arg(root.join("tests/node/shop_page.mjs"))
        .arg(&url)
        .arg(&pictures)
        .arg(shop.server().to_string())
        .env("MENTE_TEST_CHROMIUM", browser)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.ends_with("ok\n"),
        "{out}{err}"
    );
    shop.interrupt();
    assert_eq!(wait(&mut shop.0).code(), Some(0));
}

#[test]
fn a_page_whose_server_was_killed_goes_on_with_the_next_one() {
    let root = workspace();
    let browser = browser(&root);
    let mut server = Server::start_with(&["--allow-private-webhooks"]);
    let (mut shop, url) = Shop::open(&["--server".to_owned(), server.url()]);
    let mut visit = Command::new("node")
        .arg(root.join("tests/node/shop_killed.mjs"))
        .arg(&url)
        .arg(server.process.id().to_string())
        .env("MENTE_TEST_CHROMIUM", browser)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(visit.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "killed");
    assert!(!server.wait().success());
    let address = server.address.clone();
    server.process = server.rival().args(["--http", &address]).spawn().unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "ok");
    assert!(visit.wait().unwrap().success());
    shop.interrupt();
    assert_eq!(wait(&mut shop.0).code(), Some(0));
}

#[test]
fn the_page_is_for_this_machine_only() {
    let refused = command("demo")
        .args(["shop", "--serve", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("loopback"), "{said}");
}

impl Shop {
    /// Starts it and reads where its page is.
    fn open(flags: &[String]) -> (Self, String) {
        let child = command("demo")
            .args(["shop", "--serve", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn();
        let mut shop = Self(child.unwrap());
        let mut said = String::new();
        let out = shop.0.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let url = said.split_whitespace().find(|word| word.contains("://"));
        let url = url.unwrap_or_else(|| panic!("no address of the page: {said:?}"));
        (shop, url.to_owned())
    }

    /// The process of its server, which the visit makes silent for a while.
    fn server(&self) -> u32 {
        let parent = format!("PPid:\t{}", self.0.id());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut children = processes.filter(|process| {
            let status = std::fs::read_to_string(process.path().join("status"));
            status.is_ok_and(|status| status.lines().any(|line| line == parent))
        });
        let child = children.next().expect("the shop has a server of its own");
        child.file_name().to_str().unwrap().parse().unwrap()
    }

    fn interrupt(&self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.interrupt();
            let _ = self.0.wait();
        }
    }
}

/// Chromium, once everything that drives it is there too.
fn browser(root: &Path) -> PathBuf {
    let chromium = std::env::var_os("MENTE_TEST_CHROMIUM")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    let node = Command::new("node").arg("--version").output();
    let driver = root.join("tests/node/node_modules/playwright-core");
    let needs = [
        ("node", node.is_ok_and(|output| output.status.success())),
        ("playwright-core in tests/node", driver.exists()),
        ("chromium", chromium.exists()),
    ];
    let missing = needs.iter().filter(|(_, there)| !there);
    let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
    assert!(
        missing.is_empty(),
        "missing: {}; `cargo xtask setup` installs or names it",
        missing.join(", ")
    );
    chromium
}

fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}
