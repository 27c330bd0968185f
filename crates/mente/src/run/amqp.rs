//! The door for clients of Service Bus.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Context;
use mente_broker::Broker;
use mente_server::amqp::{Amqp, Options};

use super::Plan;
use crate::failure::Result;
use crate::output::bold;

pub(super) async fn bind(plan: &Plan, wanted: SocketAddr, broker: Broker) -> Result<Amqp> {
    let options = Options {
        tls: plan.tls.clone(),
        access: plan.broker.access,
        keys: plan.keys.clone(),
    };
    let bound = Amqp::bind(wanted, broker.clone(), options.clone()).await;
    let error = match bound {
        Ok(amqp) => return Ok(amqp),
        Err(error) => error,
    };
    if plan.any_port && error.kind() == ErrorKind::AddrInUse {
        let any = SocketAddr::new(wanted.ip(), 0);
        let bound = Amqp::bind(any, broker, options).await;
        let amqp = bound.context("no free port")?;
        let address = amqp.address().context("cannot tell the AMQP port")?;
        let words = format!(
            "port {} is busy: AMQP is on {address} instead",
            wanted.port()
        );
        eprintln!("{}", bold(&words));
        return Ok(amqp);
    }
    let words = format!(
        "cannot listen on {wanted}; end what holds the port, or choose another with --amqp"
    );
    Err(anyhow::Error::new(error).context(words).into())
}

/// What a client of Service Bus is given to connect. The last word has it speak plain AMQP.
pub(super) fn connection_string(address: SocketAddr) -> String {
    format!(
        "Endpoint=sb://{address};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=any;UseDevelopmentEmulator=true;"
    )
}
