package bench;

import anabranch.ExposureRef;
import anabranch.TurnMetric;
import java.util.Arrays;
import org.apache.avro.util.Utf8;

/** Rows in ClickHouse's RowBinary format. */
final class RowBinary {
  private byte[] bytes;
  private int at;

  RowBinary(int capacity) {
    bytes = new byte[capacity];
  }

  void turn(TurnMetric event, String topic, int partition, long offset) {
    text(event.getEventId());
    number(event.getTs().toEpochMilli());
    text(event.getSession());
    text(event.getPlayer());
    text(event.getLocale());
    count(event.getExposures().size());
    for (ExposureRef exposure : event.getExposures()) {
      text(exposure.getExperiment());
      number(exposure.getVersion());
      text(exposure.getVariation());
      text(exposure.getUnit());
    }
    number(event.getTurnMs());
    number(event.getModelMs());
    number(event.getBundleTokens());
    number(event.getOutputTokens());
    number(event.getRetries());
    number(event.getFallbacks());
    number(event.getToolCalls());
    number(event.getActs());
    number(event.getChoices());
    number(event.getTimeTicks());
    room(10 + topic.length());
    count(topic.length());
    for (int i = 0; i < topic.length(); i++) {
      bytes[at++] = (byte) topic.charAt(i);
    }
    number(partition);
    number(offset);
  }

  /** As the event has it: its bytes are copied, never decoded. */
  void text(CharSequence value) {
    Utf8 text = (Utf8) value;
    int length = text.getByteLength();
    count(length);
    room(length);
    System.arraycopy(text.getBytes(), 0, bytes, at, length);
    at += length;
  }

  void number(int value) {
    room(4);
    for (int i = 0; i < 4; i++) {
      bytes[at++] = (byte) (value >>> 8 * i);
    }
  }

  void number(long value) {
    room(8);
    for (int i = 0; i < 8; i++) {
      bytes[at++] = (byte) (value >>> 8 * i);
    }
  }

  private void count(int value) {
    room(5);
    int rest = value;
    while (rest > 0x7F) {
      bytes[at++] = (byte) (rest | 0x80);
      rest >>>= 7;
    }
    bytes[at++] = (byte) rest;
  }

  private void room(int more) {
    if (at + more > bytes.length) {
      bytes = Arrays.copyOf(bytes, Math.max(2 * bytes.length, at + more));
    }
  }

  /** What is in it; empty afterwards. */
  byte[] taken() {
    byte[] whole = Arrays.copyOf(bytes, at);
    at = 0;
    return whole;
  }
}
