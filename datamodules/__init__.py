from datamodules.base import DataModule
from datamodules.cifar import CIFAR10, CIFAR100
from datamodules.detection.base import DetectionDataModule
from datamodules.detection.coco import Coco
from datamodules.detection.scenes import DigitScenes
from datamodules.detection.voc import VOC
from datamodules.folder import ImageFolder
from datamodules.images import ImageDataModule
from datamodules.mnist import MNIST
from datamodules.series.base import ForecastDataModule
from datamodules.series.co2 import MaunaLoaCO2
from datamodules.series.demand import ElectricityDemand
from datamodules.series.ett import ETT
from datamodules.series.file import SeriesFile
from datamodules.series.recurring import RecurringShapes
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.digits import FreeSpokenDigits
from datamodules.speech.librispeech import LibriSpeech
from datamodules.speech.ljspeech import LJSpeech
from datamodules.speech.manifest import SpeechManifest
from datamodules.speech.spoken_sentences import SpokenSentences

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "ETT",
    "MNIST",
    "VOC",
    "Coco",
    "DataModule",
    "DetectionDataModule",
    "DigitScenes",
    "ElectricityDemand",
    "ForecastDataModule",
    "FreeSpokenDigits",
    "ImageDataModule",
    "ImageFolder",
    "LJSpeech",
    "LibriSpeech",
    "MaunaLoaCO2",
    "RecurringShapes",
    "SeriesFile",
    "SpeechDataModule",
    "SpeechManifest",
    "SpokenSentences",
]
