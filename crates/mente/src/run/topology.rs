//! The queues and topics that a server is to have when it begins.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use mente_broker::{Broker, Kind, Principal};
use mente_server::topology::{self, Sign};
use mente_wire::servicebus::config::CONFIG_BYTES;

use crate::args;
use crate::failure::{Code, Failure, Result};

/// Where Service Bus' emulator is given its file: who mounts one there need not say more.
const EMULATOR: &str = "/ServiceBus_Emulator/ConfigFiles/Config.json";

#[derive(Debug)]
pub(super) struct Topology {
    file: PathBuf,
    text: Vec<u8>,
}

impl Topology {
    /// The file that is named, or that lies where the emulator's does.
    pub(super) fn read(engine: args::Kind, named: Option<&Path>) -> Result<Option<Self>> {
        let mounted = Path::new(EMULATOR);
        let Some(file) = named.or_else(|| mounted.exists().then_some(mounted)) else {
            return Ok(None);
        };
        let shown = file.display();
        if engine == args::Kind::Kafka {
            return Err(Failure::usage(format!(
                "{shown}: a topology at the start is for the embedded engine, where one server is alone; on Kafka say mente topology apply {shown} once"
            )));
        }
        let mut text = Vec::new();
        // One byte more than may be there is enough to be refused.
        let read = File::open(file)
            .and_then(|open| open.take(CONFIG_BYTES as u64 + 1).read_to_end(&mut text));
        read.map_err(|error| Failure::usage(format!("cannot read the topology {shown}: {error}")))?;
        Ok(Some(Self {
            file: file.to_owned(),
            text,
        }))
    }

    /// Makes what it says, durable on return.
    pub(super) async fn apply(&self, broker: &Broker) -> Result<()> {
        let file = self.file.display();
        let own = Principal::Key("mente".to_owned());
        let applied = topology::apply(broker, &own, &self.text).await;
        let changes = applied.map_err(|error| {
            let code = match error.kind {
                Kind::Invalid | Kind::Unsupported | Kind::TooLarge => Code::Usage,
                Kind::Conflict => Code::Conflict,
                _ => Code::Failed,
            };
            Failure::new(code, format!("the topology {file}: {error}"))
        })?;
        let of = |sign: Sign| changes.iter().filter(|change| change.sign == sign).count();
        tracing::info!(
            %file,
            made = of(Sign::Made),
            changed = of(Sign::Changed),
            removed = of(Sign::Removed),
            same = of(Sign::Same),
            "the topology is there"
        );
        Ok(())
    }
}
