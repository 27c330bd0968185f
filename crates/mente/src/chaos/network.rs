//! A network of our own, whose hosts can be cut off: each node in a network namespace, joined by a bridge.
//! Needs Linux, root and `ip`.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The bridge itself is the last host of its network.
const HERE: u8 = 254;

/// Taken down when it is dropped.
#[derive(Debug)]
pub(super) struct Network {
    bridge: String,
    /// The third number of its addresses.
    number: u8,
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    namespace: String,
    /// Its end of the cable that stays here.
    plug: String,
}

impl Network {
    /// With so many hosts, or why it cannot be made.
    pub(super) fn make(hosts: u8) -> Result<Self> {
        let pid = std::process::id();
        let number = (pid % 250) as u8;
        let mut network = Self {
            bridge: format!("mente{pid}"),
            number,
            hosts: Vec::new(),
        };
        let bridge = network.bridge.clone();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        let here = format!("{}/24", network.here());
        ip(&["addr", "add", &here, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for host in 0..hosts {
            let namespace = format!("mente-{pid}-{host}");
            let plug = format!("mn{pid}-{host}");
            network.hosts.push(Host {
                namespace: namespace.clone(),
                plug: plug.clone(),
            });
            let address = format!("{}/24", network.address(host));
            ip(&["netns", "add", &namespace])?;
            ip(&[
                "link", "add", &plug, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
            ])?;
            ip(&["link", "set", &plug, "master", &bridge, "up"])?;
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// Where its hosts reach this process.
    pub(super) fn here(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, HERE)
    }

    pub(super) fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, host + 1)
    }

    pub(super) fn namespace(&self, host: u8) -> String {
        self.hosts[usize::from(host)].namespace.clone()
    }

    /// From now on nobody hears of this host, nor it of anybody.
    pub(super) fn cut_off(&self, host: usize) -> Result<()> {
        ip(&["link", "set", &self.hosts[host].plug, "down"])
    }

    pub(super) fn join(&self, host: usize) -> Result<()> {
        ip(&["link", "set", &self.hosts[host].plug, "up"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["link", "del", &host.plug]);
            let _ = ip(&["netns", "del", &host.namespace]);
        }
        let _ = ip(&["link", "del", &self.bridge]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output();
    let output = output.context("cannot run ip (Debian: iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    ensure!(output.status.success(), "ip {}: {said}", args.join(" "));
    Ok(())
}
