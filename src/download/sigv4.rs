//! AWS Signature Version 4 of requests to S3 and to servers that are compatible with it: the
//! `Authorization` header over method, path, host and the digest of the body.

use super::Address;
use super::hashes::hex;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The SHA-256 of an empty body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The service that requests are signed for.
const SERVICE: &str = "s3";

/// A key and its secret, for a region.
#[derive(Clone)]
pub(super) struct AwsCredentials {
    pub key: String,
    pub secret: String,
    /// Of temporary credentials.
    pub session: Option<String>,
    pub region: String,
}

impl AwsCredentials {
    /// The headers that sign a request whose body has this SHA-256. The path must be encoded as it is
    /// sent; a query isn't supported.
    pub(super) fn sign(
        &self,
        method: &str,
        address: &Address,
        sha256: Option<&str>,
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let mut headers = vec![
            ("x-amz-content-sha256", sha256.unwrap_or(EMPTY).to_owned()),
            ("x-amz-date", time.clone()),
        ];
        headers.extend(self.session.clone().map(|token| ("x-amz-security-token", token)));
        let mut signed = vec![("host", address.host().to_owned())];
        signed.extend(headers.iter().cloned());
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String =
            signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let body = sha256.unwrap_or(EMPTY);
        let request = format!("{method}\n{}\n\n{lines}\n{names}\n{body}", address.path());
        let scope = format!("{date}/{}/{SERVICE}/aws4_request", self.region);
        let digest = hex(&Sha256::digest(request));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let signature = hex(&hmac(&self.signing_key(date, SERVICE), &text));
        let key = &self.key;
        headers.push((
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
            ),
        ));
        headers
    }

    fn signing_key(&self, date: &str, service: &str) -> Vec<u8> {
        let start = format!("AWS4{}", self.secret).into_bytes();
        let parts = [date, &self.region, service, "aws4_request"];
        parts.iter().fold(start, |key, part| hmac(&key, part))
    }
}

/// Hides the secrets.
impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsCredentials for {}", self.region)
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is valid");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn credentials(session: Option<&str>) -> AwsCredentials {
        AwsCredentials {
            key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: SECRET.to_owned(),
            session: session.map(str::to_owned),
            region: "us-east-1".to_owned(),
        }
    }

    fn signed(session: Option<&str>, method: &str, url: &str, sha256: Option<&str>) -> String {
        let now: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
        let address = Address::parse(url).unwrap();
        let headers = credentials(session).sign(method, &address, sha256, now);
        headers.into_iter().find(|(name, _)| *name == "authorization").unwrap().1
    }

    /// The key that AWS derives in its documentation of the signing key's derivation.
    #[test]
    fn the_signing_key_is_that_of_the_documentation() {
        let mut credentials = credentials(None);
        credentials.secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned();
        let key = credentials.signing_key("20120215", "iam");
        assert_eq!(hex(&key), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    #[test]
    fn every_part_of_a_request_is_signed_and_no_secret_is_in_it() {
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        let base = signed(None, "GET", url, None);
        assert!(base.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
        ));
        // The signatures of botocore.
        for (url, signature) in [
            (url, "df548e2ce037944d03f3e68682813b093763996d597cf890ca3d9037fd231eb4"),
            (
                "https://examplebucket.s3.amazonaws.com/a%20b%23%C3%A9%25.png",
                "ce998dd9287b72b7a85e61dd325ee03debf0ff381eb35c457e2bec5034cd3883",
            ),
        ] {
            let header = signed(None, "GET", url, None);
            assert!(header.ends_with(&format!("Signature={signature}")), "{header}");
        }
        let body = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let others = [
            signed(None, "PUT", url, None),
            signed(None, "GET", url, Some(body)),
            signed(None, "GET", "https://other.s3.amazonaws.com/test.txt", None),
            signed(None, "GET", "https://examplebucket.s3.amazonaws.com/test%20.txt", None),
            signed(Some("session"), "GET", url, None),
        ];
        for other in &others {
            assert_ne!(base.split("Signature=").last(), other.split("Signature=").last());
            assert!(!other.contains(SECRET));
        }
        assert!(!format!("{:?}", credentials(None)).contains("wJalr"));
    }
}
