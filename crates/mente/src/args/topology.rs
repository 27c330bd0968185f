//! Flags of `mente topology`.

use clap::Subcommand;

use super::Connection;

#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Make and change what a file says, all of which is looked at before anything is done
    ///
    /// FILE is the Config.json of Service Bus' emulator as it is: {"UserConfig": {"Namespaces": [{"Queues": [{"Name":
    /// "orders", "Properties": {"LockDuration": "PT1M", "MaxDeliveryCount": 3}}], "Topics": [{"Name": "shop", "Properties":
    /// {}, "Subscriptions": [{"Name": "mail", "Properties": {}, "Rules": [{"Name": "big", "Properties": {"FilterType":
    /// "Sql", "SqlFilter": {"SqlExpression": "total > 100"}}}]}]}]}]}}, comments too. Properties are those of the
    /// administration API, but for keys. One namespace, whatever its name; at most 4 MiB and 10000 queues, topics,
    /// subscriptions and rules.
    ///
    /// What the file leaves out stays as it is, of an entity that is there too; a subscription with Rules has exactly
    /// those. RequiresSession, RequiresDuplicateDetection and EnablePartitioning are fixed when an entity is made: exit code
    /// 6 if the file has another value, and nothing is done. 2 if the file is wrong.
    Apply {
        /// JSON with comments; - reads standard input
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what apply would do: + is made, ~ changed, - taken away, = as the file says. Exit code 0 if nothing differs, 1
    /// if something does, 2 if the file is wrong
    Diff {
        /// JSON with comments; - reads standard input
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Write the file that makes what is there, on an empty server; what it cannot say is named on standard error: topics
    /// and subscriptions that were made over HTTP, keys
    Export {
        /// A new file; - writes standard output
        #[arg(default_value = "-")]
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
}
