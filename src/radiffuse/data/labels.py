"""The labels that CheXpert and MIMIC-CXR-JPG share: 1 positive, 0 negative, -1 uncertain, blank not mentioned."""

NO_FINDING = "No Finding"
PLEURAL_EFFUSION = "Pleural Effusion"
# In the order of CheXpert's train.csv.
LABELS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    PLEURAL_EFFUSION,
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
PATHOLOGIES = LABELS[1:]
