//! The tree of events that were found: each stands below what caused it, and what caused each other ends.

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::Timestamp;

use super::{EventPlace, Traced};

/// An event at all its places.
#[derive(Default)]
struct Node {
    places: Vec<Traced>,
    /// The ids of events that name it as their cause.
    children: Vec<String>,
}

/// Each event before what it caused, with its depth and what it stands below. Events of the correlation `asked`
/// whose cause is not among them stand below the event of that id, if there is one.
pub(super) fn arranged(asked: &str, found: Vec<Traced>) -> Vec<Traced> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for traced in found {
        let node = nodes.entry(traced.event.id.clone()).or_default();
        node.places.push(traced);
    }
    for node in nodes.values_mut() {
        node.places.sort_by(|a, b| order(a).cmp(&order(b)));
    }
    let mut roots = Vec::new();
    let ids: Vec<String> = nodes.keys().cloned().collect();
    for id in ids {
        match parent(&nodes, &id, asked).and_then(|parent| nodes.get_mut(&parent)) {
            Some(parent) => parent.children.push(id),
            None => roots.push(id),
        }
    }
    let times: BTreeMap<String, Timestamp> = nodes.iter().map(first).collect();
    let by_time =
        |ids: &mut Vec<String>| ids.sort_by_key(|id| (times.get(id).copied(), id.clone()));
    nodes
        .values_mut()
        .for_each(|node| by_time(&mut node.children));
    by_time(&mut roots);
    // What goes in a circle has no beginning: it begins with what was asked for, else with the first.
    let mut rest: Vec<String> = nodes.keys().cloned().collect();
    by_time(&mut rest);
    rest.sort_by_key(|id| id != asked);
    roots.extend(rest);
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for root in roots {
        walk(&nodes, root, &mut seen, &mut out);
    }
    out
}

fn walk(
    nodes: &BTreeMap<String, Node>,
    root: String,
    seen: &mut BTreeSet<String>,
    out: &mut Vec<Traced>,
) {
    let mut left: Vec<(String, usize, Option<String>)> = vec![(root, 0, None)];
    while let Some((id, depth, parent)) = left.pop() {
        let Some(node) = nodes.get(&id).filter(|_| seen.insert(id.clone())) else {
            continue;
        };
        out.extend(node.places.iter().map(|traced| Traced {
            depth,
            parent: parent.clone(),
            ..traced.clone()
        }));
        let children = node.children.iter().rev().cloned();
        left.extend(children.map(|child| (child, depth + 1, Some(id.clone()))));
    }
}

/// What an event stands below.
fn parent(nodes: &BTreeMap<String, Node>, id: &str, asked: &str) -> Option<String> {
    let places = &nodes.get(id)?.places;
    let is_known = |cause: &&str| *cause != id && nodes.contains_key(*cause);
    let cause = places.iter().find_map(Traced::cause).filter(is_known);
    let belongs = places.iter().any(|p| p.correlation() == Some(asked));
    let correlation = Some(asked).filter(|asked| belongs && is_known(asked));
    cause.or(correlation).map(str::to_owned)
}

fn first((id, node): (&String, &Node)) -> (String, Timestamp) {
    let time = node.places.iter().map(|traced| traced.time).min();
    (id.clone(), time.unwrap_or_default())
}

fn order(traced: &Traced) -> (&EventPlace, Timestamp) {
    (&traced.place, traced.time)
}

#[cfg(test)]
mod tests {
    use mente_engine::{Attribute, Event, Offset};

    use super::*;
    use crate::name::EntityName;

    /// `id<cause` of the correlation `c`, at one offset after the other.
    fn found(told: &[&str]) -> Vec<Traced> {
        let traced = |(at, told): (u64, &&str)| {
            let (id, cause) = told.split_once('<').unwrap_or((told, ""));
            let text = |name: &str, text: &str| (name.to_owned(), Attribute::Text(text.to_owned()));
            let event = Event {
                id: id.to_owned(),
                extensions: vec![text("causationid", cause), text("correlationid", "c")],
                ..Event::default()
            };
            let place = EventPlace::Topic(EntityName::new("t").unwrap(), 0, Offset(at));
            Traced::new(place, Timestamp(at as i64), None, event)
        };
        (0..).zip(told).map(traced).collect()
    }

    fn check(asked: &str, told: &[&str], expected: &[&str]) {
        let arranged = arranged(asked, found(told));
        let shown = arranged.iter().map(|traced| {
            let parent = traced.parent.as_deref().unwrap_or("-");
            format!("{}{}<{parent}", ".".repeat(traced.depth), traced.event.id)
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected, "{told:?}");
    }

    #[test]
    fn each_event_stands_below_its_cause_in_the_order_of_time() {
        check(
            "a",
            &["d<b", "b<a", "a", "c<a", "e<d"],
            &["a<-", ".b<a", "..d<b", "...e<d", ".c<a"],
        );
    }

    #[test]
    fn an_event_at_two_places_is_one() {
        check(
            "a",
            &["a", "b<a", "a", "b"],
            &["a<-", "a<-", ".b<a", ".b<a"],
        );
    }

    #[test]
    fn what_names_a_stranger_begins_a_tree() {
        check("b", &["b<elsewhere", "c<b"], &["b<-", ".c<b"]);
        // But for what belongs to an event that is there.
        check("c", &["x<gone", "c", "y"], &["c<-", ".x<c", ".y<c"]);
    }

    #[test]
    fn circles_end() {
        check("b", &["a<a"], &["a<-"]);
        check("b", &["a<c", "b<a", "c<b"], &["b<-", ".c<b", "..a<c"]);
        check("z", &["a<b", "b<a", "d"], &["d<-", "a<-", ".b<a"]);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let told: Vec<String> = (1..20_000).map(|n| format!("{n}<{}", n - 1)).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let arranged = arranged("1", found(&told));
        assert_eq!(arranged.last().unwrap().depth, 19_998);
    }
}
