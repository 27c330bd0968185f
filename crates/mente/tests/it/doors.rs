//! Every event in at every door, and out at every other: the same attributes, types and bytes, but for what a form has
//! no words for, which is one function a form. Streams of the store are a log of their own, so they are in and out of
//! HTTP alone.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;
use mente_wire::amqp::message::{Body, MapSection, Message, MessageId, Properties};
use mente_wire::amqp::performative::{Performative, Role};
use mente_wire::amqp::value::{Map, Symbol, Value as Wire};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::TcpStream;

use crate::peer::{Peer, node};
use crate::server::Server;

const STRUCTURED: &str = "application/cloudevents+json";

/// Structured events as their producers might write them.
const EVENTS: [&str; 11] = [
    r#"{"specversion":"1.0","id":"é ☃ \"1\" %","source":"/läden/☃?q=1#f","type":"com.example.ünï","subject":"Zürich 🦊 100% \\",
        "time":"2026-11-30T23:59:59.123456789+05:30","dataschema":"https://example.com/s#1","datacontenttype":"application/json",
        "aflag":true,"anumber":-2147483648,"atext":"ä, \"b\"","abinary":"AP/+gA==","aurl":"https://example.com/ü","atime":"2026-01-01T00:00:00.000000001Z",
        "partitionkey":"k","data":{"b":1.50, "a":"\u00e9", "n":12345678901234567890.5}}"#,
    r#"{"specversion":"1.0","id":"empty-subject","source":"/s","type":"t","subject":"","datacontenttype":"application/json","data":[]}"#,
    r#"{"specversion":"1.0","id":"text","source":"/s","type":"t","datacontenttype":"text/plain; charset=utf-8","data":"hällo\n\u0000🦊"}"#,
    r#"{"specversion":"1.0","id":"xml","source":"/s","type":"t","datacontenttype":"application/soap+xml","data":"<a>é</a>"}"#,
    r#"{"specversion":"1.0","id":"bytes","source":"/s","type":"t","datacontenttype":"application/octet-stream","data_base64":"AP/+gAo="}"#,
    r#"{"specversion":"1.0","id":"undeclared-bytes","source":"/s","type":"t","data_base64":"AP/+gAo="}"#,
    r#"{"specversion":"1.0","id":"empty","source":"/s","type":"t","datacontenttype":"application/octet-stream","data_base64":""}"#,
    r#"{"specversion":"1.0","id":"none","source":"/s","type":"t"}"#,
    r#"{"specversion":"1.0","id":"null","source":"/s","type":"t","datacontenttype":"application/json","data":null}"#,
    r#"{"specversion":"1.0","id":"undeclared","source":"/s","type":"t","data":"a text"}"#,
    r#"{"specversion":"1.0","id":"nested","source":"/s","type":"t","datacontenttype":"application/cloudevents+json","data":{"specversion":"1.0","id":"in","source":"/s","type":"t"}}"#,
];

/// What any form of an event says.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    attributes: BTreeMap<String, Value>,
    data: Option<Vec<u8>>,
}

impl Said {
    fn structured(text: &str) -> Self {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
        let mut said = Self {
            attributes: BTreeMap::new(),
            data: None,
        };
        let declared = members.get("datacontenttype").map(|raw| raw.get());
        let is_json = declared.is_none_or(|declared| declared.contains("json"));
        for (name, raw) in &members {
            let text = || serde_json::from_str::<String>(raw.get()).unwrap();
            match name.as_str() {
                "data" if is_json => said.data = Some(raw.get().into()),
                "data" => said.data = Some(text().into()),
                "data_base64" => said.data = Some(STANDARD.decode(text()).unwrap()),
                _ => drop(said.attributes.insert(name.clone(), raw_value(raw))),
            }
        }
        said
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// As HTTP and AMQP say it outside of JSON: JSON has to be declared, what is declared to be an event would be
    /// taken for one, and a body is always there.
    fn in_binary_mode(mut self, event: &str) -> Self {
        let is_json = event.contains(r#""data":"#);
        let declared = match (self.text("datacontenttype"), is_json) {
            (None | Some(STRUCTURED), true) => Some("application/json".to_owned()),
            (declared, _) => declared.map(str::to_owned),
        };
        if let Some(declared) = declared {
            let name = "datacontenttype".to_owned();
            self.attributes.insert(name, declared.into());
        }
        self.data.get_or_insert_default();
        self
    }

    /// As HTTP's headers say it: they are texts.
    fn in_headers(mut self, event: &str) -> Self {
        for value in self.attributes.values_mut() {
            if !value.is_string() {
                *value = value.to_string().into();
            }
        }
        self.in_binary_mode(event)
    }

    /// An empty body that declares nothing is no data.
    fn out_of_headers(mut self, event: &str) -> Self {
        self = self.in_headers(event);
        if self.text("datacontenttype").is_none() {
            self.data = self.data.filter(|data| !data.is_empty());
        }
        self
    }
}

fn raw_value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}

/// How an event comes in, and what is in then.
#[derive(Clone, Copy, Debug)]
enum In {
    Structured,
    Headers,
    /// With this prefix.
    Properties(&'static str),
    Envelope,
}

const DOORS_IN: [In; 5] = [
    In::Structured,
    In::Headers,
    In::Properties("cloudEvents:"),
    In::Properties("cloudEvents_"),
    In::Envelope,
];

impl In {
    fn has(self, event: &str) -> Said {
        let said = Said::structured(event);
        match self {
            Self::Structured | Self::Envelope => said,
            Self::Headers => said.out_of_headers(event),
            Self::Properties(_) => said.in_binary_mode(event),
        }
    }
}

/// The message in which a producer puts it.
fn message(how: In, event: &str) -> Message {
    let symbol = |text: &str| Symbol::from_ascii(Bytes::copy_from_slice(text.as_bytes()));
    let In::Properties(prefix) = how else {
        let properties = Properties {
            content_type: symbol(STRUCTURED),
            ..Properties::default()
        };
        return Message {
            properties: Some(properties.encode()),
            body: Body::of_data([event.as_bytes()]),
            ..Message::default()
        };
    };
    let said = how.has(event);
    let mut sent = Map::default();
    for (name, value) in &said.attributes {
        let value = match value {
            Value::Bool(flag) => Wire::Boolean(*flag),
            Value::Number(number) => Wire::Int(number.as_i64().unwrap().try_into().unwrap()),
            other => other.as_str().unwrap().into(),
        };
        if name != "datacontenttype" {
            sent.0
                .push((format!("{prefix}{name}").as_str().into(), value));
        }
    }
    let properties = Properties {
        // It is one of the application's too, and the same.
        message_id: said.text("id").map(|id| MessageId::String(id.into())),
        content_type: said.text("datacontenttype").and_then(symbol),
        ..Properties::default()
    };
    Message {
        properties: Some(properties.encode()),
        application_properties: Some(MapSection::ApplicationProperties.encode(&sent)),
        body: Body::of_data([&said.data.unwrap()[..]]),
        ..Message::default()
    }
}

/// What a message says.
fn of_message(payload: &Bytes) -> Said {
    let message = Message::split(payload).unwrap();
    let properties = message.read_properties().unwrap();
    let body = message.body.data().collect::<Vec<_>>().concat();
    let declared = properties.content_type.as_ref().map(|kind| kind.as_str());
    if declared == Some(STRUCTURED) {
        return Said::structured(std::str::from_utf8(&body).unwrap());
    }
    let sent = message.read_map(MapSection::ApplicationProperties).unwrap();
    let mut attributes = BTreeMap::new();
    for (name, value) in &sent.0 {
        let name = name.as_str().unwrap();
        let name = name.trim_start_matches("cloudEvents").get(1..).unwrap();
        let value = match value {
            Wire::Boolean(flag) => Value::from(*flag),
            other => match (other.as_integer(), other.as_str()) {
                (Some(number), _) => i64::try_from(number).unwrap().into(),
                (None, text) => text.unwrap().into(),
            },
        };
        attributes.insert(name.to_owned(), value);
    }
    if let Some(declared) = declared {
        attributes.insert("datacontenttype".to_owned(), declared.into());
    }
    let said = Said {
        attributes,
        data: Some(body),
    };
    // The properties that AMQP has for it say the same.
    let id = properties.message_id.unwrap();
    assert_eq!(
        Some(id),
        said.text("id").map(|id| MessageId::String(id.into()))
    );
    if let Some(subject) = &properties.subject {
        assert_eq!(Some(subject.as_str()), said.text("subject"));
    }
    said
}

fn headers_of(event: &str) -> (HeaderMap, Vec<u8>) {
    let said = Said::structured(event).in_headers(event);
    let mut headers = HeaderMap::new();
    for (name, value) in &said.attributes {
        let value = value.as_str().unwrap();
        let (name, value) = match name.as_str() {
            "datacontenttype" => ("content-type".to_owned(), value.to_owned()),
            name => {
                let value = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
                (format!("ce-{name}"), value)
            }
        };
        let name: hyper::header::HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    (headers, said.data.unwrap())
}

fn of_headers(headers: &HeaderMap, body: &[u8]) -> Said {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let value = value.to_str().unwrap();
        if name == "content-type" {
            attributes.insert("datacontenttype".to_owned(), value.into());
        } else if let Some(name) = name.as_str().strip_prefix("ce-") {
            let value = percent_decode_str(value).decode_utf8().unwrap();
            attributes.insert(name.to_owned(), value.into_owned().into());
        }
    }
    Said {
        attributes,
        data: Some(body.to_vec()),
    }
}

async fn post(server: &Server, path: &str, how: In, event: &str) {
    let answer = if let In::Headers = how {
        let (headers, body) = headers_of(event);
        server
            .client
            .request_with("POST", path, headers, body)
            .await
    } else {
        let kind = Some(STRUCTURED);
        server
            .client
            .request("POST", path, kind, event.to_owned())
            .await
    };
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{how:?} {event}: {}", answer.text());
}

async fn send(peer: &mut Peer, handle: u32, queue: &str, how: In) {
    peer.attach(handle, Role::Sender, node(queue)).await;
    let (Performative::Flow(_), _) = peer.hear().await else {
        panic!("no credit");
    };
    for (number, event) in (handle * 100..).zip(EVENTS) {
        let mut payload = Vec::new();
        message(how, event).write(&mut payload);
        peer.send(handle, number, &payload).await;
        let (heard, _) = peer.hear().await;
        assert!(matches!(heard, Performative::Disposition(_)), "{heard:?}");
    }
}

async fn received(peer: &mut Peer, handle: u32, queue: &str) -> Vec<Said> {
    peer.attach(handle, Role::Receiver, node(queue)).await;
    peer.credit(handle, EVENTS.len() as u32, false).await;
    let mut all = Vec::new();
    while all.len() < EVENTS.len() {
        if let (Performative::Transfer(_), payload) = peer.hear().await {
            all.push(of_message(&payload));
        }
    }
    all
}

/// The events in an answer of documents, as they stand there.
fn within(text: &str, list: &str) -> Vec<Said> {
    #[derive(serde::Deserialize)]
    struct Item {
        event: Box<RawValue>,
    }
    let mut document: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
    let items = document.remove(list).unwrap();
    let items: Vec<Item> = serde_json::from_str(items.get()).unwrap();
    let said = items.iter().map(|item| Said::structured(item.event.get()));
    said.collect()
}

fn check(way: &str, how: In, heard: Vec<Said>, expect: impl Fn(Said, &str) -> Said) {
    assert_eq!(heard.len(), EVENTS.len(), "{how:?} to {way}");
    for (heard, event) in heard.into_iter().zip(EVENTS) {
        assert_eq!(
            heard,
            expect(how.has(event), event),
            "{how:?} to {way}: {event}"
        );
    }
}

async fn pulled(server: &Server, topic: &str) -> Vec<Said> {
    let mut all = Vec::new();
    while all.len() < EVENTS.len() {
        let path = format!("/topics/{topic}/eventsubscriptions/pull:receive?maxEvents=100");
        all.extend(within(
            &server.call("POST", &path, "").await.text(),
            "value",
        ));
    }
    all
}

fn whole(said: Said, _: &str) -> Said {
    said
}

#[tokio::test]
async fn what_goes_in_at_any_door_comes_out_of_each() {
    let server = Server::start_with(&["--create-topics", "--amqp", "127.0.0.1:0"]);
    let ports = std::fs::read_to_string(server.data().with_file_name("ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    let stream = TcpStream::connect(ports["amqp"].as_str().unwrap()).await;
    let mut peer = Peer::begin(stream.unwrap()).await;
    for (door, how) in DOORS_IN.into_iter().enumerate() {
        let (topic, handle) = (format!("door-{door}"), 2 * door as u32);
        // A receiver makes the queue, where nothing else did.
        peer.attach(50 + handle, Role::Receiver, node(&topic)).await;
        let pull = format!("/topics/{topic}/subscriptions/pull");
        server.ok("PUT", &pull, r#"{"from":"earliest"}"#).await;
        let path = format!("/topics/{topic}/events");
        match how {
            In::Structured | In::Headers => {
                for event in EVENTS {
                    post(&server, &path, how, event).await;
                }
            }
            In::Properties(_) | In::Envelope => send(&mut peer, handle, &topic, how).await,
        }

        let batch = server.call("GET", &path, "").await.text();
        let batch: Vec<Box<RawValue>> = serde_json::from_str(&batch).unwrap();
        let batch = batch.iter().map(|event| Said::structured(event.get()));
        check("a batch", how, batch.collect(), whole);
        check("a subscription", how, pulled(&server, &topic).await, whole);

        let mut accept = HeaderMap::new();
        accept.insert("accept", "application/x-ndjson".parse().unwrap());
        let lines = server.client.request_with("GET", &path, accept.clone(), "");
        let lines = lines.await.unwrap().text();
        let (mut structured, mut binary) = (Vec::new(), Vec::new());
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let one = format!("{path}/{}:{}", line["partition"], line["offset"]);
            accept.insert("accept", STRUCTURED.parse().unwrap());
            let told = server.client.request_with("GET", &one, accept.clone(), "");
            structured.push(Said::structured(&told.await.unwrap().text()));
            let told = server.call("GET", &one, "").await;
            binary.push(of_headers(&told.headers, &told.body));
        }
        check("structured mode", how, structured, whole);
        check("binary mode", how, binary, Said::in_headers);

        let heard = received(&mut peer, handle + 1, &topic).await;
        match how {
            // Through its own door a message is what it was.
            In::Properties(_) | In::Envelope => check("a message", how, heard, whole),
            In::Structured | In::Headers => check("a message", how, heard, Said::in_binary_mode),
        }
    }
}

#[tokio::test]
async fn streams_of_the_store_give_back_what_was_appended() {
    for how in [In::Structured, In::Headers] {
        let server = Server::start();
        let store = "/topics/$store/subscriptions/pull";
        server.ok("PUT", store, r#"{"from":"earliest"}"#).await;
        for event in EVENTS {
            post(&server, "/streams/doors-1", how, event).await;
        }
        for (way, path) in [
            ("a stream", "/streams/doors-1"),
            ("the store", "/store/events"),
        ] {
            let read = server.call("GET", path, "").await.text();
            check(way, how, within(&read, "events"), whole);
        }
        let pulled = pulled(&server, "$store").await;
        check("a subscription of the store", how, pulled, whole);
    }
}
