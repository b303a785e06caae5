"""`qualcomm:SOC`: placement, accuracy and the context binary for Qualcomm's NPU, from Qualcomm's emulator."""
