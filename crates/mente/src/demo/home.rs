//! Where a demo happens: on a server of its own, which ends with it, or on one that runs already.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::server::Server;
use crate::args::{Choice, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::verb::with_own_key;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HomeArgs {
    /// Use this server instead of one of the demo's own; MENTE_KEY holds the key, if it needs one
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
    #[command(flatten)]
    pub(super) engine: Choice,
    /// Keep the server's data and everybody's files there, instead of a directory that goes away
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

pub(super) struct Home {
    pub(super) url: String,
    /// One of the demo's own.
    pub(super) server: Option<Server>,
    folder: PathBuf,
    /// Goes away with it.
    _temporary: TempDir,
}

impl HomeArgs {
    /// A server that runs already has its engine.
    pub(super) fn check(&self) -> crate::failure::Result<()> {
        if self.server.is_some() && self.engine.engine == Kind::Kafka {
            let message = "--server names a server that has its engine: leave --engine out";
            return Err(Failure::usage(message));
        }
        Ok(())
    }

    /// In a cluster a demo takes topics that nobody has yet, unless it is told which.
    fn own_engine(&self, demo: &str) -> Choice {
        let mut engine = self.engine.clone();
        // For trying out, wherever that is.
        engine.allow_unsafe_kafka = true;
        if engine.engine == Kind::Kafka && engine.kafka_prefix.is_empty() {
            let seconds = std::time::UNIX_EPOCH
                .elapsed()
                .unwrap_or_default()
                .as_secs();
            engine.kafka_prefix = format!("{demo}-{seconds:x}.")
                .parse()
                .expect("these letters are allowed");
        }
        engine
    }
}

impl Home {
    /// Starts a server unless one is named.
    pub(super) async fn open(args: &HomeArgs, demo: &str) -> Result<Self> {
        let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
        let folder = args.dir.as_deref().unwrap_or(temporary.path()).to_owned();
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let (server, url) = match &args.server {
            Some(url) => (None, url.clone()),
            None => {
                let engine = args.own_engine(demo);
                if engine.engine == Kind::Kafka {
                    let prefix = &engine.kafka_prefix;
                    eprintln!("{demo}: its topics in the Kafka cluster begin with {prefix}");
                }
                let server = Server::start_on(&folder, engine).await?;
                let url = server.url();
                (Some(server), url)
            }
        };
        Ok(Self {
            url,
            server,
            folder,
            _temporary: temporary,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn client(&self) -> Result<Client> {
        let client = Client::new(&self.url)?;
        Ok(match self.server {
            Some(_) => client,
            None => with_own_key(client)?,
        })
    }

    /// The demo's own server ends cleanly; its files stay as long as this does.
    pub(super) async fn close(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }
}
