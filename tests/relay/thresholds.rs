//! Sides that do not agree on compression.

use super::{plays::*, *};

/// Whether one side takes a frame with this packet, as strictly as anybody does.
fn takes(how_stated: usize, packet: usize, threshold: usize, server: bool) -> bool {
    match how_stated {
        0 => !server || packet <= threshold,
        stated => stated >= threshold,
    }
}

/// The length that a frame of a compressed stream states.
fn stated(frame: &[u8]) -> usize {
    let head = postern::protocol::frame::header(frame).unwrap().unwrap();
    let content = &frame[head.prefix..];
    postern::protocol::reader::peek_varint(content, 5).unwrap().unwrap().0.try_into().unwrap()
}

/// Packets of either side, with frames of a client and a backend that took each other's threshold for their own.
#[tokio::test(start_paused = true)]
async fn frames_that_the_other_side_would_refuse_are_framed_anew() {
    for play in [&PLAYS[1], &PLAYS[7], &PLAYS[12], &PLAYS[13]] {
        for (client, backend) in [
            (Some(64), Some(512)),
            (Some(512), Some(64)),
            (Some(0), Some(256)),
            (None, Some(256)),
            (Some(256), None),
        ] {
            let name = format!("{}: {client:?} {backend:?}", play.protocol);
            let mut rig =
                Setup { thresholds: Some((client, backend)), encrypted: true, ..Setup::new(play.protocol) }
                    .start();
            let natural = |packet: &[u8], threshold: Option<usize>| match threshold {
                None => frame(packet, How::Plain),
                Some(threshold) if packet.len() < threshold => frame(packet, How::Stored),
                Some(_) => frame(packet, How::Deflated(6)),
            };
            if let Some(configuration) = &play.reconfiguration {
                rig.client.send(&natural(&[3], client)).await;
                rig.backend.write_all(&natural(&[configuration.finish], backend)).await.unwrap();
                rig.client_frames(1, client).await;
                rig.client.send(&natural(&[configuration.finished], client)).await;
                rig.backend_frames(2, backend).await;
            }
            let lens = [1, 30, 63, 64, 65, 200, 256, 300, 511, 512, 513, 5000, 40_000];
            let sent: Vec<Vec<u8>> = lens
                .iter()
                .map(|len| [&[0x7e][..], &noise(len - 1)].concat())
                .chain([plugin_message(play.plugin, "BungeeCord", &[1; 400])])
                .collect();
            for up in [true, false] {
                let (from, to) = if up { (client, backend) } else { (backend, client) };
                let frames: Vec<Vec<u8>> = sent.iter().map(|packet| natural(packet, from)).collect();
                let bytes = frames.concat();
                // What is dropped does not come back by being framed anew.
                let arriving = if up { lens.len() } else { sent.len() };
                if up {
                    rig.client.send(&bytes).await;
                } else {
                    rig.backend.write_all(&bytes).await.unwrap();
                }
                let got = if up {
                    rig.backend_frames(arriving, to).await
                } else {
                    rig.client_frames(arriving, to).await
                };
                let (seen, rest) = split(&got, to);
                assert!(rest.is_empty());
                for ((original, packet), (arrived, seen)) in frames.iter().zip(&sent).zip(&seen) {
                    assert!(packet == seen, "{name}: {} bytes", packet.len());
                    let (Some(_), Some(threshold)) = (from, to) else { continue };
                    let lenient = !up && play.protocol >= 764;
                    if lenient || takes(stated(original), packet.len(), threshold, up) {
                        assert!(original == arrived, "{name}: {} bytes", packet.len());
                    } else {
                        assert!(
                            takes(stated(arrived), packet.len(), threshold, up),
                            "{name}: {} bytes",
                            packet.len()
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_framed_anew_ends_the_connection() {
    let broken = [20, 100, 0x78, 0x9c, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
    let bomb = frame(&vec![0x33; 8 << 20], How::Deflated(6));
    let of = |client, backend| Setup { thresholds: Some((client, backend)), ..Setup::new(340) }.start();
    for bytes in [&broken[..], &bomb] {
        let mut rig = of(Some(64), None);
        rig.client.send(bytes).await;
        let mut rest = Vec::new();
        rig.backend.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        assert!(is_malformed(&rig.ended().await, Side::Client));
        let mut rig = of(None, Some(64));
        rig.backend.write_all(bytes).await.unwrap();
        assert!(rig.client.read_to_end().await.is_empty());
        assert!(is_malformed(&rig.ended().await, Side::Backend));
    }
}

#[tokio::test(start_paused = true)]
async fn both_in_configuration_already() {
    for play in &PLAYS[8..] {
        let configuration = play.reconfiguration.as_ref().unwrap();
        for thresholds in [(Some(256), Some(256)), (Some(256), Some(100))] {
            let terms = Terms { begin: Begin::InConfiguration, ..PINS };
            let setup =
                Setup { terms, thresholds: Some(thresholds), encrypted: true, ..Setup::new(play.protocol) };
            let mut rig = setup.start();
            let how = How::Stored;
            // Not acknowledged again: here that id is another packet's.
            rig.up(&frame(&[0, 1, 2], how)).await;
            rig.up(&frame(&plugin_message(configuration.plugin, "minecraft:brand", b"x"), how)).await;
            rig.client.send(&frame(&plugin_message(configuration.plugin, "BungeeCord", b"x"), how)).await;
            play.finish(&mut rig, configuration, how).await;
            rig.down(&frame(&[play.login; 50], how)).await;
            rig.handle.joined().await;
            let command = frame(&play.commands("pin 1234", false, 0), how);
            rig.up_becomes(play, &command, &[], how).await;
            assert_eq!(heard_command(rig.hears().await).1, "1234");
        }
    }
}
