//! Reason codes of MQTT 5 as an operator reads them: name, number, and what to look at.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, SubscribeReasonCode, UnsubAckReason};

/// Why a broker does not let the client in.
pub fn of_connect(code: ConnectReturnCode) -> String {
    use ConnectReturnCode as Code;
    let number = match code {
        Code::Success => 0x00,
        Code::RefusedProtocolVersion => 0x01,
        Code::BadClientId => 0x02,
        Code::ServiceUnavailable => 0x03,
        Code::UnspecifiedError => 0x80,
        Code::MalformedPacket => 0x81,
        Code::ProtocolError => 0x82,
        Code::ImplementationSpecificError => 0x83,
        Code::UnsupportedProtocolVersion => 0x84,
        Code::ClientIdentifierNotValid => 0x85,
        Code::BadUserNamePassword => 0x86,
        Code::NotAuthorized => 0x87,
        Code::ServerUnavailable => 0x88,
        Code::ServerBusy => 0x89,
        Code::Banned => 0x8a,
        Code::BadAuthenticationMethod => 0x8c,
        Code::TopicNameInvalid => 0x90,
        Code::PacketTooLarge => 0x95,
        Code::QuotaExceeded => 0x97,
        Code::PayloadFormatInvalid => 0x99,
        Code::RetainNotSupported => 0x9a,
        Code::QoSNotSupported => 0x9b,
        Code::UseAnotherServer => 0x9c,
        Code::ServerMoved => 0x9d,
        Code::ConnectionRateExceeded => 0x9f,
    };
    let hint = match code {
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => "; set protocol = \"3.1.1\"",
        Code::BadClientId | Code::ClientIdentifierNotValid => "; check `client_id`",
        Code::UseAnotherServer | Code::ServerMoved => "; check `servers`",
        _ => "",
    };
    format!("the broker refuses: {}{hint}", shown(&words(code), number, None))
}

/// Why a broker does not grant a filter.
pub fn of_subscribe(code: SubscribeReasonCode) -> String {
    use SubscribeReasonCode as Code;
    let number = match code {
        Code::Success(qos) => qos as u8,
        Code::Failure | Code::Unspecified => 0x80,
        Code::ImplementationSpecific => 0x83,
        Code::NotAuthorized => 0x87,
        Code::TopicFilterInvalid => 0x8f,
        Code::PkidInUse => 0x91,
        Code::QuotaExceeded => 0x97,
        Code::SharedSubscriptionsNotSupported => 0x9e,
        Code::SubscriptionIdNotSupported => 0xa1,
        Code::WildcardSubscriptionsNotSupported => 0xa2,
    };
    let name = match code {
        Code::Failure | Code::Unspecified => "unspecified error".to_owned(),
        Code::PkidInUse => "packet identifier in use".to_owned(),
        _ => words(code),
    };
    shown(&name, number, None)
}

/// Why a filter stays; `None` if it is gone.
pub fn of_unsubscribe(code: UnsubAckReason) -> Option<String> {
    use UnsubAckReason as Code;
    let number = match code {
        Code::Success | Code::NoSubscriptionExisted => return None,
        Code::UnspecifiedError => 0x80,
        Code::ImplementationSpecificError => 0x83,
        Code::NotAuthorized => 0x87,
        Code::TopicFilterInvalid => 0x8f,
        Code::PacketIdentifierInUse => 0x91,
    };
    Some(shown(&words(code), number, None))
}

/// Why a broker ends the connection.
pub fn of_disconnect(code: DisconnectReasonCode, reason: Option<&str>) -> String {
    let hint = match code {
        DisconnectReasonCode::SessionTakenOver => "; another client has the same `client_id`",
        _ => "",
    };
    format!("disconnected by the broker: {}{hint}", shown(&words(code), code as u8, reason))
}

fn shown(name: &str, number: u8, reason: Option<&str>) -> String {
    match reason {
        Some(reason) if !reason.is_empty() => format!("{name} (0x{number:02x}): {reason:?}"),
        _ => format!("{name} (0x{number:02x})"),
    }
}

/// The library's name of a code, as words: `NotAuthorized`, `QoSNotSupported`.
fn words(code: impl std::fmt::Debug) -> String {
    let name = format!("{code:?}").replace("QoS", "Qos");
    let mut words = String::with_capacity(name.len() + 8);
    for (i, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && i > 0 {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn codes_are_told_by_name_and_number() {
        let told = [
            of_connect(ConnectReturnCode::NotAuthorized),
            of_connect(ConnectReturnCode::UnsupportedProtocolVersion),
            of_connect(ConnectReturnCode::QoSNotSupported),
            of_subscribe(SubscribeReasonCode::Unspecified),
            of_subscribe(SubscribeReasonCode::SharedSubscriptionsNotSupported),
            of_unsubscribe(UnsubAckReason::NotAuthorized).unwrap(),
            of_disconnect(DisconnectReasonCode::SessionTakenOver, None),
            of_disconnect(DisconnectReasonCode::ServerShuttingDown, Some("see you\nlater")),
        ];
        expect![[r#"
            the broker refuses: not authorized (0x87)
            the broker refuses: unsupported protocol version (0x84); set protocol = "3.1.1"
            the broker refuses: qos not supported (0x9b)
            unspecified error (0x80)
            shared subscriptions not supported (0x9e)
            not authorized (0x87)
            disconnected by the broker: session taken over (0x8e); another client has the same `client_id`
            disconnected by the broker: server shutting down (0x8b): "see you\nlater""#]]
        .assert_eq(&told.join("\n"));
        assert_eq!(of_unsubscribe(UnsubAckReason::NoSubscriptionExisted), None);
    }
}
