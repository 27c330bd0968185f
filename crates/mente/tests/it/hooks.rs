//! Receivers of webhooks that remember everything, and take it or say what they are to say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::server::eventually;

/// What a webhook answers to what was posted: a status and a body.
type Answer = dyn Fn(&Value) -> (u16, String) + Send + Sync;

/// A `webhook-id` and an event.
type Posted = (String, Value);

/// Webhooks that are posted to, by the path.
#[derive(Clone)]
pub(crate) struct Hooks {
    port: u16,
    posted: Arc<Mutex<BTreeMap<String, Vec<Posted>>>>,
}

impl Hooks {
    pub(crate) fn start() -> Self {
        Self::answering(|_| (200, String::new()))
    }

    pub(crate) fn answering(
        answer: impl Fn(&Value) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hooks = Self {
            port: listener.local_addr().unwrap().port(),
            posted: Arc::default(),
        };
        let posted = Arc::clone(&hooks.posted);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (posted, answer) = (Arc::clone(&posted), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while let Some((path, id, event)) = read_post(&mut stream) {
                        let (status, body) = answer(&event);
                        let mut posted = posted.lock().unwrap();
                        posted.entry(path).or_default().push((id, event));
                        drop(posted);
                        let length = body.len();
                        let answer = format!(
                            "HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n\r\n{body}"
                        );
                        // Who asked may have heard enough.
                        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        hooks
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// What was posted there so far, by whomever.
    pub(crate) fn posted_any(&self, path: &str) -> Vec<Value> {
        let posted = self.posted.lock().unwrap();
        let posted = posted.get(&format!("/{path}")).into_iter().flatten();
        posted.map(|(_, event)| event.clone()).collect()
    }

    /// The events that were posted there, so many at least; no two posts have one id.
    pub(crate) async fn posted(&self, path: &str, expect: usize) -> Vec<Value> {
        let path = format!("/{path}");
        let posted = || self.posted.lock().unwrap().get(&path).cloned();
        eventually(async || posted().unwrap_or_default().len() >= expect).await;
        let posted = posted().unwrap_or_default();
        let ids: BTreeSet<_> = posted.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), posted.len(), "{ids:?}");
        posted.into_iter().map(|(_, event)| event).collect()
    }
}

fn read_post(stream: &mut impl BufRead) -> Option<(String, String, Value)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else {
            break;
        };
        match &*name.to_ascii_lowercase() {
            "webhook-id" => id = value.to_owned(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, id, serde_json::from_slice(&body).ok()?))
}
