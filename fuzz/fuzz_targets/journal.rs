//! Records of the journal on disk whose checksums hold by chance: two that share a dictionary. What can be read is written
//! and read again.
#![no_main]

use heliograph::journal::disk::{Decoder, Encoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&split, records)) = bytes.split_first() else { return };
    let (first, second) = records.split_at(records.len().min(usize::from(split)));
    let (mut decoder, mut encoder, mut again) = (Decoder::default(), Encoder::default(), Decoder::default());
    for record in [first, second] {
        let Some(batch) = decoder.decode(record) else { return };
        let mut out = Vec::new();
        encoder.encode(&batch, &mut out);
        let copy = again.decode(&out).expect("what was encoded is decoded");
        assert_eq!(copy.len(), batch.len());
        for (copy, original) in copy.iter().zip(batch.iter()) {
            assert_eq!((copy.series, copy.time), (original.series, original.time));
            // Field by field as text: a NaN does not equal itself.
            assert_eq!(format!("{:?}", copy.fields), format!("{:?}", original.fields));
        }
    }
});
