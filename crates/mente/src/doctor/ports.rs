//! The port: free, or whose.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::Finding;
use super::holder::{self, Holder};

pub(super) fn check(http: SocketAddr, data_dir: &Path) -> Finding {
    match TcpListener::bind(http) {
        Ok(_) => Finding::ok("port", format!("{http} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let keeper = holder::of_lock(&data_dir.join("lock"));
            judge_taken(http, holder::of_port(http), keeper.as_ref())
        }
        Err(error) => {
            let message = format!("cannot listen on {http}: {error}");
            Finding::bad("port", message, "choose another with --http")
        }
    }
}

/// That the server of this very directory has it is as it should be.
fn judge_taken(http: SocketAddr, holder: Option<Holder>, keeper: Option<&Holder>) -> Finding {
    let advice = "end it, or choose another with --http";
    match holder {
        Some(holder) if Some(&holder) == keeper => Finding::ok(
            "port",
            format!("{http} is served from this directory by {holder}"),
        ),
        Some(holder) => Finding::bad("port", format!("{http} is taken by {holder}"), advice),
        None => Finding::bad(
            "port",
            format!("{http} is taken; by whom is not for this user to see"),
            advice,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_port_is_taken_by_ours_or_by_others() {
        let http: SocketAddr = "127.0.0.1:8480".parse().unwrap();
        let process = |pid| Holder {
            pid,
            name: "mente".into(),
        };
        let judge = |holder, keeper: Option<&Holder>| judge_taken(http, holder, keeper).verdict;
        assert_eq!(judge(Some(process(7)), Some(&process(7))), Verdict::Ok);
        assert_eq!(judge(Some(process(7)), Some(&process(8))), Verdict::Bad);
        assert_eq!(judge(Some(process(7)), None), Verdict::Bad);
        assert_eq!(judge(None, None), Verdict::Bad);
    }

    #[test]
    fn whoever_listens_is_named() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = busy.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let found = check(address, folder.path());
        assert_eq!(found.verdict, Verdict::Bad);
        let me = format!("(process {})", std::process::id());
        assert!(
            !cfg!(target_os = "linux") || found.message.contains(&me),
            "{found:?}"
        );
        drop(busy);
        assert_eq!(check(address, folder.path()).verdict, Verdict::Ok);
    }
}
