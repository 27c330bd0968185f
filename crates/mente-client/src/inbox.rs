//! What a consumer has done, beside what it did: so that an event that comes twice has an effect once.
//!
//! Events come at least once: a consumer that dies between its work and its acknowledgement gets them again, a producer
//! that was not answered publishes again, dead letters are replayed. An event is the same if source and id are
//! (CloudEvents 1.0, "id"). The note that it was done belongs into the transaction of the work, or one of the two
//! survives without the other.
//!
//! ```
//! use mente_client::inbox::Inbox;
//! # let mut mine = rusqlite::Connection::open_in_memory()?;
//! # mine.execute_batch("CREATE TABLE sales (total INTEGER); INSERT INTO sales VALUES (0)")?;
//! let inbox = Inbox::open(&mine, "sales")?;
//! for (source, id) in [("/shop", "order-17"), ("/shop", "order-17")] {
//!     let transaction = mine.transaction()?;
//!     if inbox.is_new(&transaction, source, id)? {
//!         transaction.execute("UPDATE sales SET total = total + 1", [])?;
//!     }
//!     transaction.commit()?;
//!     // Only now is it acknowledged.
//! }
//! # let total: u32 = mine.query_row("SELECT total FROM sales", [], |row| row.get(0))?;
//! assert_eq!(total, 1);
//! # Ok::<(), rusqlite::Error>(())
//! ```
//! In another database it is the same table and `INSERT … ON CONFLICT DO NOTHING`, whose count of rows says whether the
//! event is new. What cannot be in a transaction, such as a mail, may still happen twice: hand the event's id on.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Result, Transaction};

/// What one consumer has done. Several may share a database.
#[derive(Clone, Debug)]
pub struct Inbox {
    consumer: String,
}

impl Inbox {
    /// Makes the table `mente_inbox` if it is not there.
    pub fn open(connection: &Connection, consumer: &str) -> Result<Self> {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS mente_inbox
                 (consumer TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, seconds INTEGER NOT NULL,
                  PRIMARY KEY (consumer, source, id)) WITHOUT ROWID",
        )?;
        Ok(Self {
            consumer: consumer.to_owned(),
        })
    }

    /// Whether this consumer has not done the event yet; and notes that it does so in this transaction.
    pub fn is_new(&self, transaction: &Transaction<'_>, source: &str, id: &str) -> Result<bool> {
        let noted = "INSERT INTO mente_inbox VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        let mut noted = transaction.prepare_cached(noted)?;
        let rows = noted.execute((&self.consumer, source, id, seconds(SystemTime::now())))?;
        Ok(rows == 1)
    }

    /// Forgets what was done longer ago than this; how many events that are. An event that comes again later is done
    /// again, so it is to be longer than a producer retries, a lock lasts and dead letters wait to be replayed.
    pub fn forget(&self, transaction: &Transaction<'_>, older: Duration) -> Result<usize> {
        let before = SystemTime::now().checked_sub(older).map_or(0, seconds);
        let forgotten = "DELETE FROM mente_inbox WHERE consumer = ?1 AND seconds < ?2";
        transaction.execute(forgotten, (&self.consumer, before))
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_new_once_for_each_consumer_and_only_if_the_work_is_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        let [sales, mail] = ["sales", "mail"].map(|name| Inbox::open(&connection, name).unwrap());
        let transaction = connection.transaction().unwrap();
        assert!(sales.is_new(&transaction, "/shop", "1").unwrap());
        assert!(!sales.is_new(&transaction, "/shop", "1").unwrap());
        transaction.rollback().unwrap();
        let transaction = connection.transaction().unwrap();
        assert!(
            sales.is_new(&transaction, "/shop", "1").unwrap(),
            "it was not done"
        );
        assert!(sales.is_new(&transaction, "/other", "1").unwrap());
        assert!(mail.is_new(&transaction, "/shop", "1").unwrap());
        transaction.commit().unwrap();
        let transaction = connection.transaction().unwrap();
        assert_eq!(sales.forget(&transaction, Duration::from_secs(60)), Ok(0));
        transaction
            .execute("UPDATE mente_inbox SET seconds = seconds - 100", [])
            .unwrap();
        assert_eq!(sales.forget(&transaction, Duration::from_secs(60)), Ok(2));
        assert!(sales.is_new(&transaction, "/shop", "1").unwrap());
        assert!(!mail.is_new(&transaction, "/shop", "1").unwrap());
    }
}
