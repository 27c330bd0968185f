//! An authority of one test and what it signed, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

pub(crate) struct Certificates {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        let name = format!("authority in {}", directory.path().display());
        authority.distinguished_name = named(&name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Python asks for these two.
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = authority.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            directory,
            issuer: Issuer::new(authority, key),
        }
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.file("ca.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Certificate and key for these names and addresses.
    pub(crate) fn sign(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let stem = names.join("-");
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.distinguished_name = named(&stem);
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&key, &self.issuer).unwrap();
        let (cert, secret) = (
            self.file(&format!("{stem}.pem")),
            self.file(&format!("{stem}.key")),
        );
        std::fs::write(&cert, leaf.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        (cert, secret)
    }
}

/// A name of its own: what has its issuer's name counts as signed by itself.
fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
