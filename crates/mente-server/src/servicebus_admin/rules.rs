//! Rules of subscriptions: `/TOPIC/subscriptions/NAME/rules` and `/TOPIC/subscriptions/NAME/rules/RULE`.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mente_broker::rule::{Rule, same_name};
use mente_wire::servicebus::RuleDescription;
use mente_wire::servicebus::atom::{Entry, read_entry};

use super::error::{Refusal, Result};
use super::page::Page;
use super::path::Of;
use super::request::{Request, entry, feed, read};
use super::subscriptions::name;
use crate::described::rule;

pub(super) async fn list(request: &Request<'_>, of: &Of) -> Result<Response> {
    let page = Page::of(request)?;
    let all = request.broker().rules(&request.who, &name(of)?).await?;
    let (shown, has_more) = page.cut(all);
    let entries = shown.iter().map(|rule| described(request, of, rule));
    let entries = entries.collect();
    Ok(feed(page.feed(request, "Rules", entries, has_more)))
}

pub(super) async fn get(request: &Request<'_>, of: &Of, rule: &str) -> Result<Response> {
    let found = find(request, of, rule).await?;
    Ok(entry(StatusCode::OK, described(request, of, &found)))
}

pub(super) async fn put(
    request: &Request<'_>,
    of: &Of,
    rule: &str,
    body: Body,
) -> Result<Response> {
    let subscription = name(of)?;
    let said: RuleDescription = read_entry(&read(body).await?)?;
    if let Some(other) = said.name.as_deref().filter(|name| !same_name(name, rule)) {
        return Err(Refusal::bad_request(format!(
            "the path names the rule {rule:?}, its description {other:?}"
        )));
    }
    let (broker, who) = (request.broker(), &request.who);
    let (status, made) = if request.is_update() {
        let before = find(request, of, rule).await?;
        let changed = rule::rule(said, before.name, before.created_ms)?;
        broker
            .update_rule(who, &subscription, changed.clone())
            .await?;
        (StatusCode::OK, changed)
    } else {
        let made = rule::rule(said, rule.to_owned(), broker.now().wall.0)?;
        broker.add_rule(who, &subscription, made.clone()).await?;
        (StatusCode::CREATED, made)
    };
    Ok(entry(status, described(request, of, &made)))
}

pub(super) async fn delete(request: &Request<'_>, of: &Of, rule: &str) -> Result<Response> {
    let subscription = name(of)?;
    let removed = request
        .broker()
        .remove_rule(&request.who, &subscription, rule);
    removed.await?;
    Ok(StatusCode::OK.into_response())
}

async fn find(request: &Request<'_>, of: &Of, rule: &str) -> Result<Rule> {
    let all = request.broker().rules(&request.who, &name(of)?).await?;
    let found = all.into_iter().find(|known| same_name(&known.name, rule));
    found.ok_or_else(|| {
        let Of { topic, name } = of;
        Refusal::not_found(format!(
            "no rule {rule:?} of the subscription {name:?} of {topic:?}"
        ))
    })
}

fn described(request: &Request<'_>, of: &Of, rule: &Rule) -> Entry<RuleDescription> {
    // JS cuts all three names out of it, by segments in this case.
    let path = format!("{}/Subscriptions/{}/Rules/{}", of.topic, of.name, rule.name);
    let times = (rule.created_ms, rule.created_ms);
    request.entry(&path, &rule.name, times, rule::description(rule))
}
