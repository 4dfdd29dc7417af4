//! What everything is measured against: a rumqttc subscriber that only counts.

use std::time::Duration;

use crate::Outcome;

/// Subscribes and counts. Says when it is connected, and when all have arrived.
pub fn bare(port: u16, messages: usize, qos: u8) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut options = rumqttc::MqttOptions::new("bare", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = rumqttc::AsyncClient::new(options, 16);
        let qos = if qos == 0 { rumqttc::QoS::AtMostOnce } else { rumqttc::QoS::AtLeastOnce };
        client.subscribe("#", qos).await?;
        let (mut count, mut bytes) = (0, 0);
        while count < messages {
            if let rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) = events.poll().await? {
                if count == 0 {
                    println!("receiving");
                }
                count += 1;
                bytes += publish.payload.len();
            }
        }
        println!("{count} messages, {bytes} bytes");
        tokio::time::sleep(Duration::from_secs(600)).await;
        Ok(())
    })
}
