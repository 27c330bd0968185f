//! What a replica is declared with: `{"source": {"url": "https://…", "topic": "prices", "key": "…"}}`.

use std::fmt;

use mente_broker::{EntityName, Error, Result};
use mente_client::{Client, Fence};
use mente_engine::limits;
use serde::Deserialize;
use serde_json::Value;

use crate::push::{self, Reach, Target, is_public};

const PUBLIC: Fence = Fence {
    allowed: is_public,
    why: "which is not a public address; sources in private networks need a server that allows them \
          (--allow-private-webhooks)",
};

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Declaration {
    pub(super) url: String,
    pub(super) topic: EntityName,
    /// Shown to the source, and to nobody else.
    key: Option<String>,
}

impl Declaration {
    pub(super) fn parse(name: &EntityName, body: &Value) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            source: Source,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Source {
            url: String,
            topic: EntityName,
            key: Option<String>,
        }
        let wrong = |what: String| Error::invalid(format!("replica {name}: {what}"));
        let Body { source } = Body::deserialize(body).map_err(|error| wrong(error.to_string()))?;
        if source.url.len() > limits::REPLICA_URL_BYTES {
            let most = limits::REPLICA_URL_BYTES;
            return Err(wrong(format!("the URL has more than {most} bytes")));
        }
        let key_bytes = source.key.as_ref().map_or(0, String::len);
        if key_bytes > limits::REPLICA_KEY_BYTES {
            let most = limits::REPLICA_KEY_BYTES;
            return Err(wrong(format!("the key has more than {most} bytes")));
        }
        // The same walls as for webhooks: no password in it, a name that a certificate can be for.
        Target::parse(&source.url)
            .map_err(|error| wrong(error.replace("webhook ", "source's ")))?;
        Ok(Self {
            url: source.url,
            topic: source.topic,
            key: source.key,
        })
    }

    /// Another one has other items.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.url, &self.topic) == (&other.url, &other.topic)
    }

    pub(super) fn client(&self, options: &push::Options) -> Result<Client, String> {
        let fence = match options.reach {
            Reach::Public => PUBLIC,
            Reach::Anywhere => Fence::default(),
        };
        let client = Client::within(&self.url, options.trust.clone(), fence);
        let client = client.map_err(|e| e.to_string())?;
        match &self.key {
            Some(key) => client.with_key(key).map_err(|e| e.to_string()),
            None => Ok(client),
        }
    }
}

impl fmt::Debug for Declaration {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Declaration({} of {})", self.topic, self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_source_is_refused_with_a_reason() {
        let name = EntityName::new("r").unwrap();
        let long = "x".repeat(3_000);
        for (body, words) in [
            (json!({}), "missing field `source`"),
            (
                json!({"source": {"url": "http://a/"}}),
                "missing field `topic`",
            ),
            (
                json!({"source": {"url": "ftp://a/", "topic": "t"}}),
                "source's URL",
            ),
            (
                json!({"source": {"url": "http://u:p@a/", "topic": "t"}}),
                "no user name",
            ),
            (
                json!({"source": {"url": "http://a/", "topic": "$store"}}),
                "$store",
            ),
            (
                json!({"source": {"url": "http://a/", "topic": "t", "keys": "x"}}),
                "keys",
            ),
            (
                json!({"source": {"url": format!("http://{long}/"), "topic": "t"}}),
                "2000 bytes",
            ),
            (
                json!({"source": {"url": "http://a/", "topic": "t", "key": long}}),
                "1000 bytes",
            ),
        ] {
            let said = Declaration::parse(&name, &body).unwrap_err().message;
            assert!(said.contains(words), "{words:?}: {said}");
        }
        let declared = json!({"source": {"url": "https://a/ns", "topic": "t", "key": "k"}});
        let declared = Declaration::parse(&name, &declared).unwrap();
        assert_eq!(format!("{declared:?}"), "Declaration(t of https://a/ns)");
    }
}
