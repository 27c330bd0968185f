//! Whom to believe when a server says who it is, by rustls, 1.2 and 1.3. Certificates are PEM files, read once.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
pub use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client};

/// Whom to believe when a server says who it is.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The authorities that this machine trusts, and those of a file. A machine that trusts
    /// nobody is no error here; every certificate is refused then.
    pub fn system(more: Option<&Path>) -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "an authority of this machine cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        more.map_or(Ok(()), |file| add(&mut roots, file))?;
        Self::of(roots)
    }

    /// The authorities of this file and no others.
    pub fn only(file: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        add(&mut roots, file)?;
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, String> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot start: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// The same authorities for another protocol than HTTP.
    pub fn speaking(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    /// A handshake with whoever is at the other end; it must prove to be `name`.
    pub async fn connect(
        &self,
        name: ServerName<'static>,
        socket: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, String> {
        let shown = name.to_str().into_owned();
        let connecting = TlsConnector::from(Arc::clone(&self.0)).connect(name, socket);
        connecting.await.map_err(|error| refusal(&error, &shown))
    }
}

/// The name that a certificate must be for: a host name, or an address without brackets.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no name that a certificate could be for"))
}

/// The one way of enciphering in the house.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|e| format!("{} holds no authority to trust: {e}", file.display()))?;
    }
    Ok(())
}

/// Those of a PEM file, at least one.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let bytes =
        std::fs::read(file).map_err(|e| format!("cannot read the certificate in {shown}: {e}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| format!("{shown} is not in PEM form: {e}"))?;
    if found.is_empty() {
        return Err(format!(
            "{shown} holds no certificate; one begins with -----BEGIN CERTIFICATE-----"
        ));
    }
    Ok(found)
}

/// Why a handshake as client failed, in words for whoever can mend it.
pub fn refusal(error: &io::Error, name: &str) -> String {
    let cause = error.get_ref().and_then(|e| e.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(bad)) => match bad {
            CertificateError::UnknownIssuer => format!(
                "the certificate of {name} is not trusted: no authority that is trusted here signed it"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate is not for {name}: {bad}")
            }
            // Self-signed in one command, and then both: rustls tells that in this word only.
            bad if format!("{bad:?}").contains("CaUsedAsEndEntity") => format!(
                "the certificate of {name} is that of an authority; a server needs one of its own, signed by the authority"
            ),
            bad => format!("the certificate of {name} is not valid: {bad}"),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{name} does not answer in TLS; is it plain http there?")
        }
        _ => format!("no TLS with {name}: {error}"),
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}
