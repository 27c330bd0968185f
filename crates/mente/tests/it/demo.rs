//! The shop, with a server that is killed while everybody works.

use std::process::{Command, Output};

use crate::postgres::Postgres;

/// What a day of it printed.
struct Day {
    books: String,
    course: String,
}

fn shop(words: &[&str], engine: &[String]) -> Output {
    let mut shop = Command::new(env!("CARGO_BIN_EXE_mente"));
    let shop = shop.args(["demo", "shop"]).args(words).args(engine);
    shop.output().expect("the binary runs")
}

impl Day {
    /// A clean one.
    fn of(words: &[&str]) -> Self {
        let shop = shop(words, &crate::engine::flags());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (books, course) = (text(&shop.stdout), text(&shop.stderr));
        assert!(shop.status.success(), "{books}\n{course}");
        Self { books, course }
    }

    fn count(&self, row: &str) -> u64 {
        let mut lines = self.books.lines();
        let line = lines.find(|line| line.trim_start().starts_with(row));
        let number = line.and_then(|line| line.split_whitespace().nth(row.split(' ').count()));
        number
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no row {row}: {}", self.books))
    }
}

#[test]
fn nothing_is_lost_over_ten_kills() {
    let day = Day::of(&["--orders", "600", "--kills", "10"]);
    assert!(
        day.course.contains("10 of 10"),
        "it was killed ten times: {}",
        day.course
    );
    let count = |row: &str| day.count(row);
    assert_eq!(
        (count("published"), count("lost"), count("invented")),
        (600, 0, 0)
    );
    // Three of 600 orders go to an address that does not exist.
    assert_eq!((count("delivered"), count("dead-lettered")), (597, 3));
    assert!(count("retried") > 0 && count("duplicated") > 0);
    // 65 commands are sent twice on purpose, 19 of them at one time; kills may make more of them.
    assert!(count("repeated") >= 65, "{}", day.books);
    assert_eq!((count("commanded"), count("misplaced")), (600, 0));
    assert_eq!((count("refused"), count("read at once")), (52, 600));
    assert_eq!((count("copied"), count("priced alone")), (20, 10 * 20));
    // Of 60 pre-orders each reason cancels six; what was paid for three of the reasons is given back.
    assert_eq!((count("pre-ordered"), count("undone")), (60, 18));
    for said in ["36 fulfilled", "6 no answer in time", "6 no money"] {
        assert!(day.books.contains(said), "{said}: {}", day.books);
    }
    assert_eq!((count("answered"), count("misled")), (174, 0));
    assert!(count("said again") > 0, "{}", day.books);
    // Each service was away, and was missed.
    for none in ["payment 0", "reservation 0", "parcel 0"] {
        assert!(!day.books.contains(none), "{}", day.books);
    }
    // Without a database nobody bills, and the books say how somebody would.
    assert_eq!(count("billed"), 0);
    assert!(day.books.contains("--postgres URL"), "{}", day.books);
}

#[test]
fn each_bill_of_a_database_of_its_own_is_one_event_over_kills() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let day = Day::of(&["--orders", "300", "--kills", "4", "--postgres", &url]);
    assert!(day.course.contains("4 of 4"), "{}", day.course);
    // Of 298 shipments eight are given away.
    assert_eq!((day.count("delivered"), day.count("billed")), (298, 290));
    assert_eq!(day.count("misbilled"), 0);
    let left = "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'mente%'";
    assert_eq!(postgres.ask(left), "0", "its tables go away with it");
}

#[test]
fn two_days_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--orders", "5", "--dir", folder.path().to_str().unwrap()];
    // In a cluster each has topics of its own.
    assert_eq!(shop(&words, &[]).status.code(), Some(0));
    let again = shop(&words, &[]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("orders of another day"), "{said}");
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let words = ["--postgres", "postgres://nobody@127.0.0.1:1/none"];
    let shop = shop(&words, &crate::engine::flags());
    let said = String::from_utf8_lossy(&shop.stderr);
    assert_eq!(shop.status.code(), Some(1), "{said}");
    assert!(said.contains("the PostgreSQL of billing"), "{said}");
}
