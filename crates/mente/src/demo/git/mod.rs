//! `mente demo git`.

use std::path::PathBuf;

use super::home::HomeArgs;
use crate::failure::{Failure, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct GitArgs {
    path: PathBuf,
    #[command(flatten)]
    pub(super) home: HomeArgs,
}

pub(crate) async fn run(args: GitArgs) -> Result<()> {
    Err(Failure::usage(format!(
        "not built yet: {}",
        args.path.display()
    )))
}
