//! Names of every kind of entity, with every odd character there is.

use crate::attack::Attacked;

/// Beside single bytes: unicode, paths, names of our own, and lengths.
fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for byte in 0..=u8::MAX {
        names.push(format!("a%{byte:02x}b").into_bytes());
        names.push(format!("%{byte:02X}").into_bytes());
        // What no request line can hold raw is the server's to refuse; it may not be a name.
        names.push(vec![b'a', byte, b'b']);
    }
    for text in [
        "..",
        ".",
        "...",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cx",
        "a%2f..%2fb",
        "%00",
        "a%00",
        "a%00.db",
        "$journal",
        "%24journal",
        "$store",
        "$catalogue",
        "alive%2fs%2f$deadletter",
        "default%2falive",
        "mente_checkpoint%00",
        "-a",
        "_a",
        "~",
        "%",
        "%z",
        "%2",
        "%%",
        "%u0041",
        "%c3%28",
        "%ff%fe",
        "%ed%a0%80",
        "%f5%80%80%80",
        "%e2%80%ae",
        "\u{430}live",
        "a\u{301}",
        "\u{202e}a",
        "\u{0}",
        "a b",
        "a%20b",
        "a+b",
        "a;b",
        "a:b",
        "a:publish",
        "a?b",
        "a#b",
        "*",
        "a*",
        ">",
        "a.>",
        "{a}",
        "{topic}",
        "con ",
        "a%0d%0aset-cookie:x",
        "x.db-wal%2f",
    ] {
        names.push(text.as_bytes().to_vec());
    }
    for length in [261, 1_000, 60_000] {
        names.push(vec![b'x'; length]);
        names.push("%41".repeat(length.min(20_000)).into_bytes());
    }
    names
}

/// A name that is fit for an entity is no attack.
fn is_plain(name: &[u8]) -> bool {
    let decoded = String::from_utf8_lossy(name).into_owned();
    let decoded = decoded
        .split_once('%')
        .map_or(decoded.clone(), |(before, rest)| {
            let byte = rest
                .get(..2)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            format!(
                "{before}{}{}",
                byte.map_or('%', char::from),
                rest.get(2..).unwrap_or_default()
            )
        });
    let first = decoded
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    first
        && decoded.len() <= 260
        && decoded
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b))
}

fn files_under(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_under(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[tokio::test]
async fn odd_names_are_refused_and_nothing_is_made() {
    let attacked = Attacked::start(&[]).await;
    let before = attacked.inventory().await;
    let around = attacked.server.data().parent().unwrap().to_owned();
    let files = files_under(&around);
    let structured = "content-type: application/cloudevents+json\r\n";
    let event = br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    let view = br#"{"source":{"topic":"alive"},"init":["CREATE TABLE t (a)"],"on":{}}"#;
    let places: [(&str, &str, &str, &[u8]); 12] = [
        ("PUT /topics/", "", "", b""),
        ("GET /topics/", "", "", b""),
        ("DELETE /topics/", "", "", b""),
        ("POST /topics/", "/events", structured, event),
        ("POST /topics/", ":publish", structured, event),
        ("PUT /topics/alive/subscriptions/", "", "", b"{}"),
        (
            "POST /topics/alive/eventsubscriptions/",
            ":receive?maxWaitTime=0",
            "",
            b"",
        ),
        ("GET /topics/alive/subscriptions/", "/deadletters", "", b""),
        ("PUT /projections/", "", "", view),
        ("POST /projections/", "/rebuild", "", b""),
        ("PUT /folds/", "", "", b"{}"),
        ("GET /folds/", "", "", b""),
    ];
    for name in odd_names().iter().filter(|name| !is_plain(name)) {
        for (front, back, headers, body) in places {
            let line = [front.as_bytes(), name, back.as_bytes()].concat();
            let (status, text) = attacked.ask(&line, headers, body);
            let shown: String = String::from_utf8_lossy(&line).chars().take(100).collect();
            // A raw line break or space makes another request of it, which may be one that is
            // fit to be answered.
            let is_cut = name.iter().any(|byte| b" \r\n?#/".contains(byte));
            assert!(
                (400..500).contains(&status) || is_cut,
                "{shown}: {status} {text}"
            );
            assert!(status < 500, "{shown}: {status} {text}");
            assert!(
                text.len() < 4_000,
                "{shown} is answered with {} bytes",
                text.len()
            );
        }
    }
    // What was cut may have been a name that is allowed, `a`; it alone.
    for path in [
        "/topics/a",
        "/projections/a",
        "/folds/a",
        "/topics/alive/subscriptions/a",
    ] {
        attacked.server.call("DELETE", path, "").await;
    }
    assert_eq!(attacked.inventory().await, before);
    let is_log =
        |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "wal" || e == "pck");
    let made: Vec<_> = files_under(&around)
        .into_iter()
        .filter(|path| !files.contains(path) && !is_log(path))
        .collect();
    assert!(made.is_empty(), "{made:?}");
    attacked.survives(30).await;
}

/// Streams may be called almost anything; what comes back is what was said.
#[tokio::test]
async fn streams_of_odd_names_are_apart_and_come_back() {
    let attacked = Attacked::start(&[]).await;
    let headers = "content-type: application/cloudevents+json\r\n";
    let event = br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    let mut made = 0;
    for name in odd_names() {
        let line = [b"POST /streams/", name.as_slice(), b"?expected=none"].concat();
        let (status, text) = attacked.ask(&line, headers, event);
        let shown: String = String::from_utf8_lossy(&name).chars().take(100).collect();
        assert!(matches!(status, 200 | 400..500), "{shown}: {status} {text}");
        assert!(
            text.len() < 4_000,
            "{shown} is answered with {} bytes",
            text.len()
        );
        made += usize::from(status == 200 && text.contains("\"repeated\":false"));
    }
    let list = attacked.server.ok("GET", "/streams", "").await;
    let names = list["streams"].as_array().unwrap();
    assert_eq!(names.len(), made);
    for stream in names {
        let name = stream["name"].as_str().unwrap();
        assert!(
            !name.chars().any(char::is_control) && !name.starts_with('$'),
            "{name:?}"
        );
        assert!(name.len() <= 200);
        assert_eq!(stream["events"], 1, "{name:?}");
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let read = attacked
            .server
            .ok("GET", &format!("/streams/{encoded}"), "")
            .await;
        assert_eq!(read["stream"], name);
    }
    attacked.survives(30).await;
}
