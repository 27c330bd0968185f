//! The shop, with a server that is killed ten times while everybody works.

use std::process::Command;

#[test]
fn nothing_is_lost_over_ten_kills() {
    let shop = Command::new(env!("CARGO_BIN_EXE_mente"))
        .args(["demo", "shop", "--orders", "600", "--kills", "10"])
        .args(crate::engine::flags())
        .output()
        .expect("the binary runs");
    let (books, course) = (
        String::from_utf8_lossy(&shop.stdout),
        String::from_utf8_lossy(&shop.stderr),
    );
    assert!(shop.status.success(), "{books}\n{course}");
    assert!(
        course.contains("10 of 10"),
        "it was killed ten times: {course}"
    );
    let count = |row: &str| -> u64 {
        let line = books
            .lines()
            .find(|line| line.trim_start().starts_with(row));
        let number = line.and_then(|line| line.split_whitespace().nth(row.split(' ').count()));
        number
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no row {row}: {books}"))
    };
    assert_eq!(
        (count("published"), count("lost"), count("invented")),
        (600, 0, 0)
    );
    // Two of 600 orders go to an address that does not exist.
    assert_eq!((count("delivered"), count("dead-lettered")), (597, 3));
    assert!(count("retried") > 0 && count("duplicated") > 0);
    // 46 commands are sent twice on purpose; kills may make more of them.
    assert!(count("repeated") >= 46, "{books}");
    assert_eq!((count("commanded"), count("misplaced")), (600, 0));
    assert_eq!((count("refused"), count("read at once")), (52, 600));
    assert_eq!((count("copied"), count("priced alone")), (20, 10 * 20));
}
