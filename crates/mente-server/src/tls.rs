//! TLS by rustls, 1.2 and 1.3: who this server is ([`Identity`]), and which authorities its
//! clients and webhooks believe ([`Trust`]). Certificates and keys are PEM files, read once.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
pub use rustls::pki_types::ServerName;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

/// Whom to believe when a server says who it is.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Identity {
    /// The chain begins with the server's own certificate. Says what is wrong with the files.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, String> {
        let certificates = certificates(chain)?;
        let secret = private_key(key)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot start: {error}"))?
            .with_no_client_auth()
            .with_single_cert(certificates, secret)
            .map_err(|error| unfit(&error, chain, key))?;
        // What the door speaks; a client that wants only HTTP/2 hears it in the handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<server::TlsStream<TcpStream>> {
        TlsAcceptor::from(Arc::clone(&self.0)).accept(socket).await
    }
}

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
    pub(crate) fn speaking(&self, protocol: &[u8]) -> Arc<ClientConfig> {
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|e| format!("{} holds no authority to trust: {e}", file.display()))?;
    }
    Ok(())
}

/// At least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
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

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(|e| format!("cannot read the key in {shown}: {e}"))?;
    // Two forms: a block of that name, and a header in a block of the older kind.
    if bytes.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(format!(
            "the key in {shown} is encrypted, and nobody is there to type its password; decrypt it (openssl pkey -in FILE -out FILE) and protect the file"
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("{shown} holds no key; one begins with -----BEGIN PRIVATE KEY-----")
        }
        error => format!("{shown} is not in PEM form: {error}"),
    })
}

fn unfit(error: &rustls::Error, chain: &Path, key: &Path) -> String {
    let (chain, key) = (chain.display(), key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the key in {key} does not belong to the first certificate in {chain}; the server's own certificate comes first, those of its issuers behind it"
        ),
        error => format!("cannot serve TLS with {chain} and {key}: {error}"),
    }
}

/// Why a handshake as client failed, in words for whoever can mend it.
pub(crate) fn refusal(error: &io::Error, name: &str) -> String {
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

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
