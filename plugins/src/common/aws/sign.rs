//! Signature Version 4.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use ring::{digest, hmac};

use super::{AwsError, Credentials};
use crate::common::http_client::Request;

/// Adds the headers that sign the request, at `now` (nanoseconds since the Unix epoch). Signed are the method, the address,
/// the body, the host, the time and the session token; other headers can change afterwards.
///
/// # Errors
/// If the time cannot be written, or the keys have characters that a header cannot have.
pub fn sign(
    request: &mut Request,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: i64,
) -> Result<(), AwsError> {
    let fail = |what: &str| AwsError::Other(format!("{what} cannot be put into a header"));
    let now = Timestamp::from_nanosecond(now.into()).map_err(|error| AwsError::Other(error.to_string()))?;
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = time.get(..8).unwrap_or_default().to_owned();
    let url = request.address.url();
    let host = match request.headers.get(HOST) {
        Some(host) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
        None => authority(url),
    };
    let mut headers = vec![("host", host), ("x-amz-date", time.clone())];
    if !credentials.token.is_empty() {
        headers.push(("x-amz-security-token", credentials.token.clone()));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{signed}\n{}",
        request.method,
        canonical_path(url),
        canonical_query(url),
        hex(digest::digest(&digest::SHA256, &request.body).as_ref())
    );
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let key = [date.as_str(), region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", credentials.secret_key).into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credentials.access_key
    );
    for (name, value) in headers.into_iter().skip(1) {
        let value = HeaderValue::try_from(value).map_err(|_| fail("the session token"))?;
        request.headers.insert(HeaderName::from_static(name), value);
    }
    let value = HeaderValue::try_from(authorization).map_err(|_| fail("the access key"))?;
    request.headers.insert(AUTHORIZATION, value);
    Ok(())
}

fn authority(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// The path as it is sent, encoded once more: services other than S3 want it so.
fn canonical_path(url: &Url) -> String {
    let mut out = String::new();
    encode(url.path().as_bytes(), b"/", &mut out);
    out
}

fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(key, value)| {
            let (mut k, mut v) = (String::new(), String::new());
            encode(key.as_bytes(), b"", &mut k);
            encode(value.as_bytes(), b"", &mut v);
            (k, v)
        })
        .collect();
    pairs.sort();
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

fn encode(bytes: &[u8], also: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::http_client::Address;
    use reqwest::Method;

    /// Keys and time of the test suite that AWS publishes for this signature.
    fn authorization(method: Method, url: &str) -> String {
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: String::new(),
            until: None,
        };
        let mut request = Request::new(method, Address::parse(url).unwrap());
        sign(&mut request, &credentials, "us-east-1", "service", 1_440_938_160_000_000_000).unwrap();
        assert_eq!(request.headers["x-amz-date"], "20150830T123600Z");
        request.headers[AUTHORIZATION].to_str().unwrap().rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn get_vanilla() {
        let expected = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(authorization(Method::GET, "https://example.amazonaws.com/"), expected);
    }

    #[test]
    fn get_vanilla_query_order_key_case() {
        let expected = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        let url = "https://example.amazonaws.com/?Param2=value2&Param1=value1";
        assert_eq!(authorization(Method::GET, url), expected);
    }

    #[test]
    fn post_vanilla() {
        let expected = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(authorization(Method::POST, "https://example.amazonaws.com/"), expected);
    }
}
