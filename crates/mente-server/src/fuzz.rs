//! Ways in for the fuzzers: what stands in paths, queries and bodies of the HTTP door.

use mente_broker::EntityName;

use crate::projection;
use crate::push::Target;
use crate::saga;

pub use crate::http::fuzz::{position, query};

pub fn webhook_url(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(target) = Target::parse(text) {
        assert!(!target.host.is_empty() && target.path.starts_with('/'));
        assert!(!target.authority.contains('@'), "{text:?} has a user");
        // What the request line and the Host header will hold.
        assert!(
            !target.path.contains(['\r', '\n', ' '])
                && !target.authority.contains(['\r', '\n', ' '])
        );
        let scheme = if target.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let again = format!("{scheme}://{}{}", target.authority, target.path);
        let again = Target::parse(&again);
        assert_eq!(again.as_ref(), Ok(&target), "a URL changes");
    }
}

pub fn projection_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"source":{"topic":"orders"},"database":"orders.db","init":["CREATE TABLE t (a)"],"on":{"A":["INSERT INTO t VALUES (:id)"]}}"#,
        r#"{"source":{"store":true,"category":"order"},"init":[],"on":{}}"#,
        r#"{"source":{"store":true},"target":{"postgres":"postgres://me:hush@127.0.0.1:5432/d?sslmode=disable","schema":"orders"},"parallel":4,"init":[],"on":{}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Read as the door reads it; its SQL is SQLite's to judge.
pub fn projection(input: &[u8]) {
    let Some(tree) = crate::http::fuzz::json(input) else {
        return;
    };
    let name = EntityName::new("totals").expect("a name");
    if let Ok(declaration) = projection::Declaration::parse(&name, &tree) {
        let projection::declaration::Target::File(file) = &declaration.target else {
            return;
        };
        assert!(
            !file.contains(['/', '\\', '\0']) && !file.starts_with('.'),
            "{file:?}"
        );
        let again = serde_json::from_str(&declaration.text).expect("it is JSON");
        assert_eq!(
            projection::Declaration::parse(&name, &again).ok(),
            Some(declaration)
        );
    }
}

pub fn saga_seeds() -> Vec<Vec<u8>> {
    let declared = r#"{"on":{"A":"stream","B":"data.order.id","C":"subject"},"javascript":"function react() {}","from":3}"#;
    let mut seeds = saga::fuzz::moves();
    seeds.push(declared.as_bytes().to_vec());
    seeds
}

/// As it is declared, and as what a course wrote of itself.
pub fn saga(input: &[u8]) {
    if let Some(tree) = crate::http::fuzz::json(input) {
        saga::fuzz::declaration(&tree);
    }
    saga::fuzz::moved(input);
}
