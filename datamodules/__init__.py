from datamodules.base import DataModule
from datamodules.cifar import CIFAR10, CIFAR100
from datamodules.folder import ImageFolder
from datamodules.images import ImageDataModule
from datamodules.mnist import MNIST

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "DataModule", "ImageDataModule", "ImageFolder"]
