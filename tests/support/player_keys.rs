//! The keys that players of 1.19 to 1.19.2 sign with, and a stand-in for the authority that signs these.

use rand_core::OsRng;
use rsa::{
    Pkcs1v15Sign, RsaPrivateKey,
    pkcs8::{EncodePublicKey, LineEnding},
};
use sha1::{Digest, Sha1};
use uuid::Uuid;

/// RFC 8017, 9.2: what PKCS #1 v1.5 puts before a SHA-1 and a SHA-256 hash.
const SHA1: &str = "3021300906052b0e03021a05000414";
const SHA256: &str = "3031300d060960864801650304020105000420";

fn sign(key: &RsaPrivateKey, info: &str, hash: &[u8]) -> Vec<u8> {
    let prefix =
        (0..info.len()).step_by(2).map(|at| u8::from_str_radix(&info[at..at + 2], 16).unwrap()).collect();
    key.sign(Pkcs1v15Sign { hash_len: Some(hash.len()), prefix }, hash).unwrap()
}

/// The base64 of the key's X.509 DER, in one line.
fn base64(key: &RsaPrivateKey) -> String {
    let pem = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

pub struct Authority(RsaPrivateKey);

/// A player's key as login start carries it, and the private half.
#[derive(Clone)]
pub struct PlayerKey {
    pub expires: i64,
    pub der: Vec<u8>,
    pub signature: Vec<u8>,
    /// Whether the client signs the verify token with it, as the game does, or encrypts that as if it had no key.
    pub signs: bool,
    pub private: RsaPrivateKey,
}

impl Authority {
    pub fn new() -> Self {
        Self(RsaPrivateKey::new(&mut OsRng, 2048).unwrap())
    }

    /// As it is published.
    pub fn published(&self) -> String {
        base64(&self.0)
    }

    /// A key for that player in the form that the protocol knows; its own private half, or one that there is already.
    pub fn certify(&self, protocol: i32, id: Uuid, expires: i64, private: &RsaPrivateKey) -> PlayerKey {
        let der = private.to_public_key().to_public_key_der().unwrap().into_vec();
        let message = if protocol == 759 {
            let mut text = format!("{expires}-----BEGIN RSA PUBLIC KEY-----\n");
            for line in base64(private).as_bytes().chunks(76) {
                text += std::str::from_utf8(line).unwrap();
                text += "\n";
            }
            (text + "-----END RSA PUBLIC KEY-----\n").into_bytes()
        } else {
            [&id.as_bytes()[..], &expires.to_be_bytes(), &der].concat()
        };
        let signature = sign(&self.0, SHA1, &Sha1::digest(message));
        PlayerKey { expires, der, signature, signs: true, private: private.clone() }
    }
}

impl PlayerKey {
    /// The signature on a verify token and a salt.
    pub fn sign(&self, token: &[u8], salt: i64) -> Vec<u8> {
        let hash = sha2::Sha256::digest([token, &salt.to_be_bytes()].concat());
        sign(&self.private, SHA256, &hash)
    }
}
