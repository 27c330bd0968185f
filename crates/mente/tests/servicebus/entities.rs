//! The queues and topics that cases need, made through the administration door, as `tests/servicebus/entities.json`
//! declares their kinds: that of kind `plain` of the case `abandon` is called `plain.abandon`.

use mente::client::Client;
use serde_json::{Map, Value};

use crate::judge::Case;

const KINDS: &str = include_str!("../../../../tests/servicebus/entities.json");

pub(crate) async fn make(administration: &str, cases: &[Case]) {
    let kinds: Map<String, Value> = serde_json::from_str(KINDS).unwrap();
    let client = Client::new(&format!("http://{administration}")).unwrap();
    for case in cases {
        // Last the one that forwards to the others.
        let mut wanted: Vec<_> = case.kinds.iter().collect();
        wanted.sort_by_key(|kind| kinds[*kind]["queue"].get("ForwardTo").is_some());
        for kind in wanted {
            let (declared, name) = (&kinds[kind], format!("{kind}.{}", case.name));
            if let Some(queue) = declared["queue"].as_object() {
                put(
                    &client,
                    &name,
                    "QueueDescription",
                    &of_the_case(queue, &case.name),
                )
                .await;
            } else {
                let topic = declared["topic"].as_object().unwrap();
                put(&client, &name, "TopicDescription", topic).await;
            }
            for (subscription, settings) in
                declared["subscriptions"].as_object().into_iter().flatten()
            {
                let path = format!("{name}/subscriptions/{subscription}");
                put(
                    &client,
                    &path,
                    "SubscriptionDescription",
                    settings.as_object().unwrap(),
                )
                .await;
            }
        }
    }
}

/// Where a queue forwards to is a kind too.
fn of_the_case(settings: &Map<String, Value>, case: &str) -> Map<String, Value> {
    let mut settings = settings.clone();
    if let Some(Value::String(to)) = settings.get_mut("ForwardTo") {
        *to = format!("{to}.{case}");
    }
    settings
}

async fn put(client: &Client, path: &str, description: &str, settings: &Map<String, Value>) {
    let settings = settings.iter().map(|(name, value)| {
        let value = value.as_str().expect("settings are texts");
        format!("<{name}>{value}</{name}>")
    });
    let entry = format!(
        r#"<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml"><{description} xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">{}</{description}></content></entry>"#,
        settings.collect::<String>()
    );
    let kind = Some("application/atom+xml;type=entry;charset=utf-8");
    let path = format!("/{path}?api-version=2021-05");
    let made = client.request("PUT", &path, kind, entry).await.unwrap();
    assert_eq!(made.status, 201, "{path}: {}", made.text());
}
