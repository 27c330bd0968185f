//! TLS by rustls, 1.2 and 1.3: who this server is ([`Identity`]), and which authorities its
//! clients, webhooks and replicas believe ([`Trust`], which `mente-client` has too). Certificates and keys are PEM
//! files, read once.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use mente_client::tls::{ServerName, Trust, refusal, server_name};
use mente_client::tls::{certificates, provider};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server};

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

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

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
