//! Who holds a port or a lock, as far as Linux tells this user.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) name: String,
}

impl Holder {
    fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self {
            pid,
            name: name.trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who listens there. Others' processes are seen by root only.
pub(super) fn of_port(address: SocketAddr) -> Option<Holder> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            listener(&text, address)
        })?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.as_os_str() == link.as_str())
    })
    .map(Holder::of)
}

/// The inode of the socket that listens there, in the kernel's table of sockets: a line is
/// `sl local:PORT remote:PORT state … uid timeout inode`, numbers in hexadecimal.
fn listener(table: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (host, port) = fields.get(1)?.split_once(':')?;
        let is_port = u16::from_str_radix(port, 16) == Ok(address.port());
        let is_any = host.bytes().all(|digit| digit == b'0');
        let is_ours =
            is_any || address.ip().is_unspecified() || host.ends_with(&spelled(address.ip()));
        let is_it = is_port && is_ours && fields.get(3) == Some(&LISTEN);
        is_it.then(|| fields.get(9)?.parse().ok())?
    })
}

/// As the kernel's table spells it: words in the byte order of the machine.
fn spelled(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4);
    let word = |word: &[u8]| {
        let word: [u8; 4] = word.try_into().expect("chunks of four");
        format!("{:08X}", u32::from_le_bytes(word))
    };
    words.map(word).collect()
}

/// Who holds the lock on this file.
pub(super) fn of_lock(file: &Path) -> Option<Holder> {
    let file = fs::metadata(file).ok()?;
    let (major, minor) = (major(file.dev()), minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let table = fs::read_to_string("/proc/locks").ok()?;
    locker(&table, &place).map(Holder::of)
}

/// A line is `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE …`, the device in hexadecimal.
fn locker(table: &str, place: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&place);
        is_it.then(|| fields.get(4)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2120 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:2121 0100007F:2120 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000:2122 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0";
        for (address, inode) in [
            ("127.0.0.1:8480", Some(4711)),
            ("127.0.0.1:8481", None),
            ("127.0.0.1:8482", Some(4713)),
            ("0.0.0.0:8480", Some(4711)),
            ("10.0.0.1:8480", None),
        ] {
            assert_eq!(
                listener(table, address.parse().unwrap()),
                inode,
                "{address}"
            );
        }
    }

    #[test]
    fn a_lock_is_found_in_the_kernels_table() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fe:00:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 9 fe:00:12 0 EOF";
        for (place, pid) in [
            ("fe:00:12", Some(9)),
            ("fe:00:13", None),
            ("fe:01:12", None),
        ] {
            assert_eq!(locker(table, place), pid, "{place}");
        }
    }
}
