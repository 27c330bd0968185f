//! The keys of an entity and what may be done with them.

use mente_engine::Timestamp;

use super::xml::{self, Element, Wrong};

/// Most rules that are read; the service takes 12.
const RULES: usize = 64;
const KIND: &str = "SharedAccessAuthorizationRule";

#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    pub name: String,
    /// Of `Listen`, `Send` and `Manage`.
    pub rights: Vec<String>,
    pub primary_key: Option<String>,
    pub secondary_key: Option<String>,
    /// The server's to say.
    pub created: Option<Timestamp>,
    pub modified: Option<Timestamp>,
}

/// Without its keys.
impl std::fmt::Debug for AuthorizationRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizationRule")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

pub(super) fn read(rules: &Element) -> Result<Vec<AuthorizationRule>, Wrong> {
    if rules.children.len() > RULES {
        return Err(Wrong(format!("more than {RULES} authorization rules")));
    }
    let rules = rules.children.iter();
    rules
        .filter(|rule| rule.name == "AuthorizationRule")
        .map(read_one)
        .collect()
}

fn read_one(rule: &Element) -> Result<AuthorizationRule, Wrong> {
    let text = |name: &str| rule.child(name).map(|child| child.text.trim().to_owned());
    let kind = rule.attribute("type").map(xml::local);
    if kind.is_some_and(|kind| kind != KIND) {
        return Err(Wrong(format!("an authorization rule that is not a {KIND}")));
    }
    let name = text("KeyName").filter(|name| !name.is_empty());
    let rights = rule
        .child("Rights")
        .map_or(&[][..], |rights| &rights.children);
    Ok(AuthorizationRule {
        name: name.ok_or_else(|| Wrong("an authorization rule without a KeyName".to_owned()))?,
        rights: rights
            .iter()
            .map(|right| right.text.trim().to_owned())
            .collect(),
        primary_key: text("PrimaryKey").filter(|key| !key.is_empty()),
        secondary_key: text("SecondaryKey").filter(|key| !key.is_empty()),
        ..AuthorizationRule::default()
    })
}

pub(super) fn write(out: &mut String, name: &str, rules: &[AuthorizationRule]) {
    out.push_str(&format!("<{name}>"));
    for rule in rules {
        out.push_str(&format!("<AuthorizationRule i:type=\"{KIND}\">"));
        xml::write(out, "ClaimType", "SharedAccessKey");
        xml::write(out, "ClaimValue", "None");
        out.push_str("<Rights>");
        for right in &rule.rights {
            xml::write(out, "AccessRights", right);
        }
        out.push_str("</Rights>");
        for (name, at) in [
            ("CreatedTime", rule.created),
            ("ModifiedTime", rule.modified),
        ] {
            if let Some(at) = at {
                xml::write(out, name, &at.to_rfc3339());
            }
        }
        xml::write(out, "KeyName", &rule.name);
        for (name, key) in [
            ("PrimaryKey", &rule.primary_key),
            ("SecondaryKey", &rule.secondary_key),
        ] {
            if let Some(key) = key {
                xml::write(out, name, key);
            }
        }
        out.push_str("</AuthorizationRule>");
    }
    out.push_str(&format!("</{name}>"));
}
