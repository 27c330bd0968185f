//! The door for administrators of Service Bus.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Context;
use mente_broker::Broker;
use mente_server::servicebus_admin::{Administration, Options};

use super::Plan;
use crate::failure::Result;
use crate::output::bold;

/// Takes the port, if one is wanted.
pub(super) async fn bind(plan: &Plan, broker: &Broker) -> Result<Option<Administration>> {
    let Some(wanted) = plan.administration else {
        return Ok(None);
    };
    let options = Options {
        tls: plan.tls.clone(),
        access: plan.broker.access,
        keys: plan.keys.clone(),
    };
    let bound = Administration::bind(wanted, broker.clone(), options.clone()).await;
    let error = match bound {
        Ok(door) => return Ok(Some(door)),
        Err(error) => error,
    };
    if plan.any_port && error.kind() == ErrorKind::AddrInUse {
        let any = SocketAddr::new(wanted.ip(), 0);
        let bound = Administration::bind(any, broker.clone(), options).await;
        let door = bound.context("no free port")?;
        let address = door
            .address()
            .context("cannot tell the port of the administration")?;
        let words = format!(
            "port {} is busy: the administration of Service Bus is on {address} instead",
            wanted.port()
        );
        eprintln!("{}", bold(&words));
        return Ok(Some(door));
    }
    let words = format!(
        "cannot listen on {wanted}; end what holds the port, or choose another with --servicebus-admin"
    );
    Err(anyhow::Error::new(error).context(words).into())
}
