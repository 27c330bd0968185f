//! The file that Service Bus' emulator starts with: the queues, topics, subscriptions and rules of a namespace.
//!
//! ```text
//! {"UserConfig": {"Namespaces": [{"Name": …,
//!     "Queues": [{"Name": …, "Properties": {…}}],
//!     "Topics": [{"Name": …, "Properties": {…},
//!         "Subscriptions": [{"Name": …, "Properties": {…}, "Rules": [{"Name": …, "Properties": {…}}]}]}]}],
//!   "Logging": {"Type": "File"}}}
//! ```
//! JSON with comments, and with commas before an end. Properties are those of the administration's descriptions, by
//! the same names, but for what only the server can tell, and keys. What is not known is refused, since whoever wrote it
//! counts on it; null is as good as left out. `Logging` is the emulator's own affair.

mod place;
mod property;
mod rule;

#[cfg(test)]
mod tests;

use mente_engine::limits;

use super::atom::Description;
use super::rule::RuleDescription;
use super::xml::Wrong;
use place::Object;
pub use place::{Place, plain};
pub use property::told;
pub use rule::told as told_rule;

/// Largest file: it comes as a body.
pub const CONFIG_BYTES: usize = limits::HTTP_BODY_BYTES;
/// Most queues, topics, subscriptions and rules of one file.
pub const CONFIG_ITEMS: usize = 10_000;

/// What a file states.
#[derive(Clone, Debug, Default)]
pub struct Config<'a> {
    pub queues: Vec<Stated<'a>>,
    pub topics: Vec<StatedTopic<'a>>,
}

/// An entity and what is said of it.
#[derive(Clone, Debug)]
pub struct Stated<'a> {
    /// As it is spelt there; whether it is one is for others to say.
    pub name: String,
    pub place: Place<'a>,
    properties: Option<Object<'a>>,
}

#[derive(Clone, Debug)]
pub struct StatedTopic<'a> {
    pub stated: Stated<'a>,
    pub subscriptions: Vec<StatedSubscription<'a>>,
}

#[derive(Clone, Debug)]
pub struct StatedSubscription<'a> {
    pub stated: Stated<'a>,
    /// None of a subscription that says none: to the emulator an empty list is the same.
    pub rules: Vec<StatedRule<'a>>,
}

#[derive(Clone, Debug)]
pub struct StatedRule<'a> {
    pub name: String,
    pub place: Place<'a>,
    pub description: RuleDescription,
}

impl<'a> Config<'a> {
    /// Reads what [`plain`] made of a file.
    pub fn read(plain: &'a str) -> Result<Self, Wrong> {
        let whole = Place::whole(plain)?.object(&["UserConfig"])?;
        let user = whole.needed("UserConfig")?;
        let user = user.object(&["Namespaces", "Logging"])?;
        if let Some(logging) = user.get("Logging") {
            let logging = logging.object(&["Type"])?;
            logging
                .get("Type")
                .map_or(Ok(()), |kind| kind.text().map(drop))?;
        }
        let namespaces = user.needed("Namespaces")?;
        let [namespace] = &namespaces.list()?[..] else {
            let what = "must be a list of exactly one namespace: a server of Mente has one, so give each a server and a file of its own";
            return Err(namespaces.wrong(what));
        };
        let mut left = CONFIG_ITEMS;
        let namespace = namespace.object(&["Name", "Queues", "Topics"])?;
        namespace
            .get("Name")
            .map_or(Ok(()), |name| name.text().map(drop))?;
        Ok(Self {
            queues: items(&namespace, "Queues", &mut left, |queue, _| {
                Stated::read(&queue, &[]).map(|(queue, _)| queue)
            })?,
            topics: items(&namespace, "Topics", &mut left, StatedTopic::read)?,
        })
    }
}

/// The items of a list that may be left out, each of which is counted.
fn items<'a, T>(
    of: &Object<'a>,
    name: &str,
    left: &mut usize,
    read: impl Fn(Place<'a>, &mut usize) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let Some(list) = of.get(name) else {
        return Ok(Vec::new());
    };
    let items = list.list()?;
    *left = left.checked_sub(items.len()).ok_or_else(|| {
        list.wrong(&format!(
            "makes it more than {CONFIG_ITEMS} queues, topics, subscriptions and rules: put them into several files"
        ))
    })?;
    items.into_iter().map(|item| read(item, left)).collect()
}

impl<'a> Stated<'a> {
    fn read(place: &Place<'a>, more: &[&str]) -> Result<(Self, Object<'a>), Wrong> {
        let object = place.object(&[&["Name", "Properties"], more].concat())?;
        let properties = object.get("Properties");
        let stated = Self {
            name: object.needed("Name")?.text()?,
            place: place.clone(),
            properties: properties.map(|place| place.all()).transpose()?,
        };
        Ok((stated, object))
    }

    /// Says over what is known what is stated; the rest stays as it is.
    pub fn put_over<D: Description>(&self, known: &mut D) -> Result<(), Wrong> {
        match &self.properties {
            Some(properties) => property::put_over(properties, known),
            None => Ok(()),
        }
    }
}

impl<'a> StatedTopic<'a> {
    fn read(place: Place<'a>, left: &mut usize) -> Result<Self, Wrong> {
        let (stated, object) = Stated::read(&place, &["Subscriptions"])?;
        let subscriptions = items(&object, "Subscriptions", left, StatedSubscription::read)?;
        Ok(Self {
            stated,
            subscriptions,
        })
    }
}

impl<'a> StatedSubscription<'a> {
    fn read(place: Place<'a>, left: &mut usize) -> Result<Self, Wrong> {
        let (stated, object) = Stated::read(&place, &["Rules"])?;
        let rules = items(&object, "Rules", left, |place, _| {
            let (rule, object) = Stated::read(&place, &[])?;
            let description = rule::read(&object.needed("Properties")?)?;
            Ok(StatedRule {
                name: rule.name,
                place,
                description,
            })
        })?;
        Ok(Self { stated, rules })
    }
}
