//! Where a webhook may lead. A name is resolved at every attempt, every address that it gives
//! is checked, and the connection goes to a checked address, so a name that changes its mind
//! between check and use gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::Uri;
use mente_engine::Shown;

use crate::tls::{ServerName, server_name};

/// What a webhook's address must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses only.
    Public,
    /// Loopback and private networks too: development.
    Anywhere,
}

/// A webhook URL, taken apart and checked as far as it can be without a name look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    /// Over TLS, with a certificate for this name.
    pub tls: Option<ServerName<'static>>,
    pub port: u16,
    /// What the Host header says.
    pub authority: String,
    pub path: String,
}

impl Target {
    /// Takes `http://host[:port]/path` and `https://…`; says what is wrong with anything else.
    pub fn parse(url: &str) -> Result<Self, String> {
        let shown = Shown(url);
        let uri: Uri = url
            .parse()
            .map_err(|e| format!("the webhook URL {shown} is no URL: {e}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => {
                return Err(format!(
                    "the webhook URL {shown} must begin with https:// or http://"
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("the webhook URL {shown} names no host"))?;
        if authority.as_str().contains('@') {
            return Err("a webhook URL carries no user name or password".into());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(format!("the webhook URL {shown} names no host"));
        }
        let tls = is_tls.then(|| server_name(&host)).transpose()?;
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        // `http://host?x=1` has no path, which a request line must have.
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}");
        let port = authority
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self {
            host,
            tls,
            port,
            authority: authority.as_str().to_owned(),
            path,
        })
    }

    /// Resolves the host; all of its addresses must be allowed.
    pub async fn resolve(&self, reach: Reach) -> Result<SocketAddr, String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<_> = found
            .map_err(|e| format!("cannot resolve {}: {e}", self.host))?
            .collect();
        let first = found
            .first()
            .ok_or_else(|| format!("{} has no address", self.host))?;
        for address in &found {
            if reach == Reach::Public && !is_public(address.ip()) {
                return Err(format!(
                    "{} leads to {}, which is not a public address; webhooks to private networks need a server that allows them",
                    self.host,
                    address.ip()
                ));
            }
        }
        Ok(*first)
    }
}

/// Whether the address belongs to the public internet, whatever form it is written in.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        // Carrier-grade NAT (RFC 6598), IETF assignments (RFC 6890), benchmarks (RFC 2544),
        // relays of 6to4 (RFC 7526).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 88 && c == 99);
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(inner) = embedded_v4(ip) {
        return is_public_v4(inner);
    }
    let [a, b, ..] = ip.segments();
    // Only 2000::/3 is global unicast; in it, IETF assignments (2001::/23, Teredo among them) and
    // documentation (also 3fff::/20) lead nowhere public.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && (b == 0xdb8 || b < 0x200))
        && !(a == 0x3fff && b < 0x1000)
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(of(high, low)),
        // Not 64:ff9b:1::/48, which is NAT64 of somebody's own network and has it elsewhere.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known_in_every_form() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "192.88.99.1",
            "64:ff9b:1:7f00:0:100:808:808",
            "64:ff9b:0:1::8.8.8.8",
            "2001:2::1",
            "2001:10::1",
            "2001:1ff::1",
            "3fff:fff::1",
            "fec0::1",
            "5f00::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "2001:200::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn odd_urls_are_refused_with_a_reason() {
        for bad in [
            "",
            "ftp://a/",
            "http://",
            "/path",
            "http://user:pw@a/",
            "https://",
            "https://user@a/",
            "https://a_b..c/",
            "http://a b/",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Target::parse("http://a/").unwrap().tls, None);
        for (host, port) in [
            ("hooks.example", 443),
            ("10.0.0.1:8443", 8443),
            ("[::1]", 443),
        ] {
            let target = Target::parse(&format!("https://{host}/x")).unwrap();
            let name = target.tls.unwrap();
            assert_eq!((&*name.to_str(), target.port), (&*target.host, port));
        }
        assert_eq!(Target::parse("http://a?x=1").unwrap().path, "/?x=1");
        let target = Target::parse("http://[::1]:8080/hook?x=1").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.path.as_str()),
            ("::1", 8080, "/hook?x=1")
        );
    }

    #[tokio::test]
    async fn odd_spellings_of_loopback_are_found_out() {
        for spelling in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
        ] {
            let target = Target::parse(&format!("http://{spelling}:80/")).unwrap();
            assert!(target.resolve(Reach::Public).await.is_err(), "{spelling}");
        }
    }
}
