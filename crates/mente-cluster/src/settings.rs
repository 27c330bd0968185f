//! What brokers and topics are set to.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Again;
use crate::connection::Connection;

/// Kinds of things that have settings.
pub(crate) const OF_TOPIC: i8 = 2;
pub(crate) const OF_BROKER: i8 = 4;

/// Of one thing, by their names.
pub(crate) type Settings = BTreeMap<String, String>;

/// These settings of things of a kind, by the names of the things. A broker tells of itself only.
pub(crate) async fn settings(
    broker: &Arc<Connection>,
    kind: i8,
    names: &[String],
    keys: &[&'static str],
) -> Result<BTreeMap<String, Settings>, Again> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<_> = keys
        .iter()
        .copied()
        .map(StrBytes::from_static_str)
        .collect();
    let resources = names.iter().map(|name| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.clone()))
            .with_configuration_keys(Some(keys.clone()))
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    let answer = broker.ask(1..=4, &request).await?;
    // One that went in between, or that may not be looked at, has an error, and is left out.
    let found = answer
        .results
        .into_iter()
        .filter(|result| result.error_code == 0);
    Ok(found
        .map(|result| {
            let settings = result.configs.into_iter();
            let settings = settings
                .filter_map(|setting| Some((setting.name.to_string(), setting.value?.to_string())));
            (result.resource_name.to_string(), settings.collect())
        })
        .collect())
}
